"""What statuses mean to people, as the pages of the platform show them."""

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


def word_of(status: str | None) -> str:
    """Return a status in words."""
    return "not started" if status is None else status.replace("_", " ")
