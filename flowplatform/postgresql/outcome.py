"""A connection that breaks while it commits: what was to be written is there, or not, and nobody has said which."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import InterfaceError, OperationalError


class OutcomeUnknown(OperationalError):  # noqa: N818  (named for what it says)
    """The connection broke after the commit was sent and before it was confirmed."""


@contextmanager
def committing(wrapper: Any) -> Iterator[None]:
    """Say of a statement that commits, by itself or because it is COMMIT, when its answer was lost.

    Any other statement that loses its connection has written nothing: its transaction ended with the connection.
    """
    try:
        yield
    except (OperationalError, InterfaceError) as error:
        if wrapper.in_atomic_block or not _is_lost(wrapper.connection, error):
            raise
        raise OutcomeUnknown(*error.args) from error.__cause__ or error


def _is_lost(connection: Any, error: Exception) -> bool:
    """Say whether a connection that there was is no more."""
    if connection is None:  # there was none to be had
        return False
    state: str = getattr(error.__cause__, "sqlstate", None) or ""
    return connection.closed or state.startswith(("08", "57P"))
