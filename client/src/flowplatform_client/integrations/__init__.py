"""Reporting from the tools that workers already use. Each module needs the tool whose name it has, and nothing else."""
