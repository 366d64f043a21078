"""What statuses mean and what they make of a run: the same tables and the same rule as `states.js`.

Lists are rendered here and drawn live there, so both have to say the same; a test holds them together.
"""

from collections.abc import Mapping
from typing import NamedTuple

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

# In the order of bars and counts: what is done, what is wrong, what moves, what waits.
STATES = tuple(GLYPHS)

WORDS = {"other": "other", "unreported": "not started"}

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

ACTIVE = frozenset({"queued", "running", "awaiting"})


class Meaning(NamedTuple):
    """A state, which has a colour and a glyph, and the word for it."""

    state: str
    word: str

    @property
    def glyph(self) -> str:
        """What stands beside the colour."""
        return GLYPHS[self.state]


def meaning_of(status: str | None) -> Meaning:
    """Return what a status means; `None` is a task that has said nothing yet."""
    if status is None:
        return Meaning("unreported", WORDS["unreported"])
    state = MEANINGS.get(status, "other")
    return Meaning(state, status if state == "other" else status.replace("_", " "))


def word_of(state: str) -> str:
    """Name a state in a count: "3 running", "2 not started"."""
    return WORDS.get(state, state)


def count_states(statuses: Mapping[str | None, int], total: int) -> dict[str, int]:
    """Count tasks by state; `total` includes those that have said nothing."""
    counts = dict.fromkeys(STATES, 0)
    for status, count in statuses.items():
        counts[meaning_of(status).state] += count
    counts["unreported"] += max(0, total - sum(statuses.values()))
    return counts


def meaning_of_run(status: str, counts: Mapping[str, int], total: int) -> Meaning:
    """Return what a run does.

    Its own status counts once somebody has set it; before that ("queued") its tasks tell, because reporting a task does
    not touch the status of its execution.
    """
    own = meaning_of(status)
    has_reports = any(counts[state] for state in STATES if state != "unreported")
    if own.state != "queued" or not has_reports:
        return own
    state = _state_of_tasks(counts, total)
    return Meaning(state, state)


def _state_of_tasks(counts: Mapping[str, int], total: int) -> str:
    if counts["running"]:
        return "running"
    if counts["awaiting"]:
        return "awaiting"
    if counts["completed"] + counts["skipped"] == total:
        return "completed"
    if counts["queued"]:
        return "running"
    if counts["failed"]:
        return "failed"
    return "cancelled" if counts["cancelled"] else "running"


def sentence(counts: Mapping[str, int]) -> str:
    """Say counts in the order of bars: "5 completed, 1 failed, 2 not started"."""
    return ", ".join(f"{counts[state]} {word_of(state)}" for state in STATES if counts[state])
