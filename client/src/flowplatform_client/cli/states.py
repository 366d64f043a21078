"""What statuses mean to people, as the pages of the platform show them."""

from collections.abc import Mapping

# Workers may send any text; one that is not here is shown as it is.
MEANINGS = {
    "queued": "queued",
    "running": "running",
    "completed": "completed",
    "failed": "failed",
    "awaiting_input": "awaiting",
    "requires_review": "awaiting",
    "cancel_requested": "cancelled",
    "cancelled": "cancelled",
    "skipped": "skipped",
}

GLYPHS = {
    "completed": "✓",
    "failed": "✕",
    "running": "●",
    "awaiting": "◆",
    "cancelled": "⊘",
    "skipped": "↷",
    "other": "■",
    "queued": "○",
    "unreported": "·",
}

STYLES = {
    "completed": "green",
    "failed": "bold red",
    "running": "bold blue",
    "awaiting": "magenta",
    "cancelled": "yellow",
    "skipped": "dim",
    "other": "cyan",
    "queued": "",
    "unreported": "dim",
}

ENDED = frozenset({"completed", "failed", "cancelled", "skipped"})  # statuses after which nothing is expected
BAD = frozenset({"failed", "cancelled", "deleted"})


def state_of(status: str | None) -> str:
    """Return the state that a status stands for; `None` is a task that has said nothing yet."""
    return "unreported" if status is None else MEANINGS.get(status, "other")


def state_of_run(status: str, counts: Mapping[str, int]) -> str:
    """Return the state of an execution: its own once somebody has set it, before that what its tasks make of it."""
    total = sum(counts.values())
    if state_of(status) != "queued" or counts["unreported"] == total:
        return state_of(status)
    if counts["running"]:
        return "running"
    if counts["awaiting"]:
        return "awaiting"
    if counts["completed"] + counts["skipped"] == total:
        return "completed"
    if counts["queued"]:
        return "running"
    return "failed" if counts["failed"] else "cancelled" if counts["cancelled"] else "running"


def word_of(status: str | None) -> str:
    """Return a status in words."""
    return "not started" if status is None else status.replace("_", " ")
