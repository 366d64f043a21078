"""Whose rows the database shows: row-level security, the second wall behind `visible_to`.

Every row of a tenant is protected by a policy that compares its organization with a setting of the transaction,
`flowplatform.organizations`. Code says for whom it works, by `show` for the rest of a request or by `showing` for a
block, and the connection (`flowplatform/postgresql`) tells PostgreSQL at the beginning of each transaction. Where
requests are answered, who says nothing is shown nothing; commands and tasks work for every organization.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from flowplatform import role

SETTING = "flowplatform.organizations"
NOBODY, EVERYBODY = "", "*"

_shown: ContextVar[str] = ContextVar("shown", default=NOBODY if role.answers_requests() else EVERYBODY)


def shown() -> str:
    """Return the value of the setting: `NOBODY`, `EVERYBODY`, or ids as an array of PostgreSQL."""
    return _shown.get()


def value_of(ids: Collection[UUID] | None) -> str:
    """Return the setting that shows the rows of these organizations; `None` shows everybody's."""
    if ids is None:
        return EVERYBODY
    return f"{{{','.join(map(str, ids))}}}" if ids else NOBODY


def show(value: str) -> None:
    """Show these rows from here on: until the end of the request, or of the block that is being `showing`."""
    _shown.set(value)


@contextmanager
def showing(value: str) -> Iterator[None]:
    """Show these rows in a with statement, and what was shown before after it."""
    before = _shown.get()
    _shown.set(value)
    try:
        yield
    finally:
        _shown.set(before)  # not by a token: a generator may be closed in another context than it began in
