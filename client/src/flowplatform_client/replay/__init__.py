"""Replaying a recorded workflow: reading the trace, planning, playing, and comparing what came of it."""
