"""Cursors of lists: opaque to clients, signed, and bound to the list they came from."""

from typing import Any

from django.core import signing

from flowplatform.errors import BadRequest

_SALT = "flowplatform.cursor"


def encode_cursor(place: str, after: Any) -> str:
    """Return a cursor for the rows after `after` (a JSON value) in the list named `place`."""
    return signing.dumps([place, after], salt=_SALT)


def decode_cursor(place: str, cursor: str) -> Any:
    """Return what was encoded; raise 400 for garbage and for a cursor of another list."""
    try:
        found, after = signing.loads(cursor, salt=_SALT)
    except (signing.BadSignature, ValueError, TypeError):
        found, after = None, None
    if found != place:
        raise BadRequest("The cursor is not valid for this list; begin without one.")
    return after
