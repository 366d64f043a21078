"""The audit record."""
