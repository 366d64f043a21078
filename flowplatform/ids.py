"""Ids as people write them into addresses and search fields."""

from uuid import UUID


def as_uuid(text: str) -> UUID | None:
    """Return the UUID that the text spells, if it does."""
    try:
        return UUID(text)
    except ValueError:
        return None
