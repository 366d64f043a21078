"""What this process is for: "web" and "live" serve requests, "worker" runs Celery, "command" is everything else.

Tests are a "test": they see the database as the servers do, not as its owner, and without their time limits.
"""

import os

_VARIABLE = "FLOWPLATFORM_ROLE"


def claim(role: str) -> None:
    """Name the role of this process. The first claim wins: call it before Django reads its settings."""
    os.environ.setdefault(_VARIABLE, role)


def current() -> str:
    """Return the role of this process."""
    return os.environ.get(_VARIABLE, "command")


def answers_requests() -> bool:
    """Say whether others ask this process for something: what it may show depends on who they are."""
    return current() in ("web", "live")


def serves() -> bool:
    """Say whether this process runs for as long as the platform does."""
    return current() in ("web", "live", "worker")
