"""Ids as people write them into addresses and search fields."""

import re
from uuid import UUID

IS_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.IGNORECASE)  # of a request


def as_uuid(text: str) -> UUID | None:
    """Return the UUID that the text spells, if it does."""
    try:
        return UUID(text)
    except ValueError:
        return None
