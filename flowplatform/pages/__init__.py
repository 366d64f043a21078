"""The pages for people: flows, their runs, and what waits for a decision."""
