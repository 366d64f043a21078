"""Writing into the audit record.

- What is written in Python is an `Entry`. `record` writes entries in the caller's transaction. `record_alone` writes
  one by itself, after a refusal whose transaction was rolled back; a database that is away does not change the answer.
- A statement that changes rows writes its entries along: `ENTRIES` is an INSERT with the parameter `audit`, which
  `encoded` makes.
- What may be done by whom (users, members, tokens, …) is recorded by triggers, so that no way to change it is without
  its record: admin, service, command, SQL by hand. They name the author of the transaction, if it is `acting`.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

import orjson
from django.db import DatabaseError, InterfaceError, connection, transaction

from flowplatform.audit.authors import Author
from flowplatform.audit.vocabulary import Action, Outcome
from flowplatform.monthly import MonthlyTable, Partition

T = TypeVar("T")

logger = logging.getLogger(__name__)

_TEXT = 200  # characters; the columns hold as many

ENTRIES = """
    INSERT INTO audit_record (
        created_at, action, outcome, actor_kind, actor_id, actor_name, organization_id,
        subject_type, subject_id, subject_text, address, request_id, details
    )
    SELECT statement_timestamp(), action, outcome, split_part(actor_name, ':', 1), actor_id, actor_name,
           organization_id, subject_type, subject_id, subject_text, address, request_id, details
    FROM json_to_recordset(%(audit)s::json) AS entry (
        action text, outcome text, actor_id uuid, actor_name text, organization_id uuid,
        subject_type text, subject_id text, subject_text text, address inet, request_id text, details jsonb
    )
"""


class Subject(NamedTuple):
    """What something was done to: its type, its id where it has one, and a text to find it by."""

    type: str = ""
    id: str = ""
    text: str = ""


NOTHING = Subject()


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the record. `details` are small and hold no secret: no token's text, no password, no cookie."""

    action: Action
    author: Author
    outcome: Outcome = Outcome.DONE
    organization_id: UUID | None = None
    subject: Subject = NOTHING
    details: Mapping[str, Any] = field(default_factory=dict)


def encoded(*entries: Entry) -> str:
    """Return entries as the parameter `audit` of `ENTRIES`."""
    return orjson.dumps([_row(entry) for entry in entries]).decode()


def record(*entries: Entry) -> None:
    """Write entries by one statement, in the caller's transaction if there is one."""
    with connection.cursor() as cursor:
        cursor.execute(ENTRIES, {"audit": encoded(*entries)})


def record_alone(entry: Entry) -> None:
    """Write an entry after the fact. What the database does not take goes into the log of the process instead."""
    try:
        record(entry)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("not in the audit record: %s (%s)", encoded(entry), error)


def unless_away(read: Callable[[], T]) -> T | None:
    """Return what is read for an entry; `None` if the database is away: the entry is made without it."""
    try:
        return read()
    except (DatabaseError, InterfaceError):
        return None


def storable(text: str, limit: int = _TEXT) -> str:
    """Return text of others as the database and JSON can hold it, and not too long."""
    return text[:limit].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def _row(entry: Entry) -> dict[str, Any]:
    author = entry.author
    return {
        "action": entry.action.value,
        "outcome": entry.outcome.value,
        "actor_id": author.id,
        "actor_name": storable(author.name),
        "organization_id": entry.organization_id,
        "subject_type": entry.subject.type,
        "subject_id": entry.subject.id,
        "subject_text": storable(entry.subject.text),
        "address": author.origin.address,
        "request_id": author.origin.request_id or "",
        "details": {**entry.details, "token": author.token} if author.token else entry.details,
    }


@contextmanager
def acting(author: Author) -> Iterator[None]:
    """Run a block in a transaction whose changes to users, members, tokens and the like are recorded as `author`'s."""
    is_part = connection.in_atomic_block
    with transaction.atomic():
        before = _name(_encoded(author))
        yield
        if is_part:  # what the transaction goes on with is not the author's
            _name(before)


def _encoded(author: Author) -> str:
    names = {"id": author.id, "name": author.name, "token": author.token}
    return orjson.dumps({**names, "address": author.origin.address, "request_id": author.origin.request_id}).decode()


def _name(author: str) -> str:
    """Set the author of the transaction; return the one before."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT coalesce(current_setting('flowplatform.author', true), '')")
        before: str = cursor.fetchone()[0]
        cursor.execute("SELECT set_config('flowplatform.author', %s, true)", [author])
    return before


def drop_recorded(table: MonthlyTable, before: datetime, author: Author) -> Iterator[Partition]:
    """Drop the months of a table that lie wholly before a moment; yield each when it is gone.

    The function of the database that drops one records it, as `author`'s. Raises TableBusyError.
    """
    for partition in table.old(before):
        with acting(author):
            table.drop(partition)
        yield partition
