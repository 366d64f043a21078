"""What this process is for: "web" and "live" serve requests, "worker" runs Celery, "command" is everything else."""

import os

_VARIABLE = "FLOWPLATFORM_ROLE"


def claim(role: str) -> None:
    """Name the role of this process. The first claim wins: call it before Django reads its settings."""
    os.environ.setdefault(_VARIABLE, role)


def current() -> str:
    """Return the role of this process."""
    return os.environ.get(_VARIABLE, "command")
