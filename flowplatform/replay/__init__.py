"""Replaying a recorded workflow through the public API: reading the trace, planning, playing, comparing."""
