"""The relay: numbers the committed events of flows, one relay at a time per flow, and makes frames of them.

Ids come from a sequence before their transaction commits, so "everything after the last id" can skip a row that commits
late. Hence two steps: a request inserts without a number, and the relay, which holds the stream's row, gives the next
offsets to what is committed. A crash between any two steps loses nothing: unnumbered events wait for the sweep, and
numbered ones that were not sent are found by a gap or a heartbeat.

Flows that have news at the same time share a transaction: one for each costs more than the work in it.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import orjson
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from flowplatform.encoding import array_of, encode
from notifications.changes import THIS_TRANSACTION

BATCH = 500  # events numbered in one transaction at most
FLOWS = 50  # in one transaction at most
FRAME_BYTES = 256 * 1024  # a frame is closed when it exceeds this

# Locked in the order of their ids, so that relays of the same flows wait for each other and not in a circle.
_LOCK = """
    SELECT flow_id, "offset", organization_id FROM notifications_stream WHERE flow_id = ANY(%s::uuid[])
    ORDER BY flow_id FOR NO KEY UPDATE
"""

_LOCK_IF_FREE = f"{_LOCK} SKIP LOCKED"

# Events of an organization that is gone have no stream and no reader.
_FORGET_ORPHANS = """
    DELETE FROM notifications_event AS event WHERE flow_id = ANY(%s::uuid[]) AND "offset" IS NULL
    AND NOT EXISTS (SELECT 1 FROM accounts_organization AS organization WHERE organization.id = event.organization_id)
"""

_OPEN = f"""
    INSERT INTO notifications_stream (flow_id, organization_id, epoch, changed_in)
    SELECT DISTINCT ON (flow_id) flow_id, organization_id, gen_random_uuid(), {THIS_TRANSACTION}
    FROM notifications_event
    WHERE flow_id = ANY(%s::uuid[]) AND "offset" IS NULL ORDER BY flow_id
    ON CONFLICT (flow_id) DO NOTHING
"""  # noqa: S608  (all parts are written in the code)

# A statement of its own after the locks: its snapshot then has what other relays numbered before. And apart from the
# update: joined to it, the planner takes an outbox that it knows nothing about for a large part of the log, and reads
# the whole log.
_PENDING = """
    SELECT stream.flow_id, event.*
    FROM unnest(%s::uuid[]) AS stream (flow_id) CROSS JOIN LATERAL (
        SELECT id, type, flow_execution_id, created_at, data::text FROM notifications_event
        WHERE flow_id = stream.flow_id AND "offset" IS NULL ORDER BY id LIMIT %s::int
    ) AS event
"""

_NUMBER = f"""
    WITH numbered AS (
        UPDATE notifications_event AS event SET "offset" = item."offset"
        FROM unnest(%(ids)s::bigint[], %(numbers)s::bigint[]) AS item (id, "offset") WHERE event.id = item.id
    )
    UPDATE notifications_stream AS stream SET "offset" = item."offset", changed_in = {THIS_TRANSACTION}
    FROM unnest(%(flows)s::uuid[], %(highest)s::bigint[]) AS item (flow_id, "offset")
    WHERE stream.flow_id = item.flow_id
"""  # noqa: S608

_READ = """
    SELECT "offset", type, flow_execution_id, created_at, data::text
    FROM notifications_event
    WHERE organization_id = (SELECT organization_id FROM notifications_stream WHERE flow_id = %(flow)s)
      AND flow_id = %(flow)s AND "offset" > %(since)s
    ORDER BY "offset" LIMIT %(limit)s
"""

_WAITING = """
    SELECT flow_id FROM notifications_event
    WHERE "offset" IS NULL AND created_at < clock_timestamp() - make_interval(secs => %s)
    GROUP BY flow_id ORDER BY min(id) LIMIT %s
"""

_WAITING_OF = """
    SELECT DISTINCT flow_id FROM notifications_event
    WHERE "offset" IS NULL AND flow_id = ANY(%s) AND created_at < clock_timestamp() - make_interval(secs => %s)
"""

_WAITING_IN = """
    SELECT flow_id FROM notifications_event
    WHERE "offset" IS NULL AND organization_id = ANY(%s) AND created_at < clock_timestamp() - make_interval(secs => %s)
    GROUP BY flow_id ORDER BY min(id) LIMIT %s
"""

_PRUNE = """
    WITH gone AS (
        DELETE FROM notifications_event WHERE id IN (
            SELECT id FROM notifications_event
            WHERE created_at < %(before)s AND "offset" IS NOT NULL ORDER BY created_at LIMIT %(limit)s
        ) RETURNING flow_id, "offset"
    ), flows AS (
        SELECT flow_id, max("offset") AS highest FROM gone GROUP BY flow_id
    ), streams AS (
        SELECT flow_id FROM notifications_stream WHERE flow_id IN (SELECT flow_id FROM flows)
        ORDER BY flow_id FOR NO KEY UPDATE
    ), pruned AS (
        UPDATE notifications_stream AS stream SET pruned_offset = greatest(pruned_offset, highest)
        FROM flows JOIN streams USING (flow_id)
        WHERE stream.flow_id = flows.flow_id
    )
    SELECT count(*) FROM gone
"""

EventRow = tuple[int, str, UUID | None, datetime, str]


class Numbered(dict[UUID, list[EventRow]]):
    """What one transaction numbered: the events of each flow that had any, and whose flows these are."""

    def __init__(self) -> None:
        self.organizations: dict[UUID, UUID] = {}

    def highest(self) -> dict[UUID, dict[UUID, int]]:
        """Return the highest offset of each flow, by organization."""
        offsets: dict[UUID, dict[UUID, int]] = {}
        for flow_id, rows in self.items():
            offsets.setdefault(self.organizations[flow_id], {})[flow_id] = rows[-1][0]
        return offsets


@dataclass(frozen=True, slots=True)
class Frame:
    """Consecutive events `first` to `last` of a flow, encoded once as the text of one socket message."""

    first: int
    last: int
    text: str


def event_json(row: EventRow) -> bytes:
    """Encode one event as the contract shows it, its data as it was published."""
    offset, type_, flow_execution_id, created_at, data = row
    return encode(
        {
            "offset": offset,
            "type": type_,
            "flow_execution_id": flow_execution_id,
            "created_at": created_at,
            "data": orjson.Fragment(data),
        }
    )


def frames(rows: Iterable[EventRow]) -> Iterator[Frame]:
    """Make frames of consecutive events, each at most one event larger than FRAME_BYTES."""
    events: list[bytes] = []
    first = last = size = 0
    for row in rows:
        events.append(event_json(row))
        first, last, size = first or row[0], row[0], size + len(events[-1])
        if size >= FRAME_BYTES:
            yield _frame(first, last, events)
            events, first, size = [], 0, 0
    if events:
        yield _frame(first, last, events)


def _frame(first: int, last: int, events: list[bytes]) -> Frame:
    return Frame(first, last, '{"type":"events","events":[' + b",".join(events).decode() + "]}")


def number_pending(flow_ids: Collection[UUID], *, wait: bool = True) -> Iterator[Numbered]:
    """Give the next offsets to the committed, unnumbered events of flows; yield them in order, a transaction at a time.

    Ends when every outbox was seen empty. Relays of one flow wait for each other on the stream's row; without `wait` a
    flow that another relay holds is left to that one.
    """
    waiting = list(flow_ids)
    while waiting:
        flows, waiting = waiting[:FLOWS], waiting[FLOWS:]
        share = BATCH // len(flows)
        if numbered := _number(flows, _LOCK if wait else _LOCK_IF_FREE, share):
            yield numbered
        waiting += [flow_id for flow_id, rows in numbered.items() if len(rows) == share]


@transaction.atomic
def _number(flow_ids: Collection[UUID], lock: str, share: int) -> Numbered:
    """Number at most `share` events of each flow; return the flows that had any."""
    with connection.cursor() as cursor:
        offsets, numbered = _locked(cursor, lock, flow_ids)
        if missing := set(flow_ids) - set(offsets):  # held by another relay, or not there yet
            absent = array_of(map(str, missing))
            cursor.execute(_FORGET_ORPHANS, [absent])
            cursor.execute(_OPEN, [absent])
            offsets, numbered = _locked(cursor, lock, flow_ids)
        cursor.execute(_PENDING, [array_of(map(str, offsets)), share])
        ids: list[str] = []
        for flow_id, event_id, *event in cursor.fetchall():
            offsets[flow_id] += 1
            ids.append(str(event_id))
            numbered.setdefault(flow_id, []).append((offsets[flow_id], *event))
        if ids:
            parameters = {
                "ids": array_of(ids),
                "numbers": array_of(str(row[0]) for rows in numbered.values() for row in rows),
                "flows": array_of(map(str, numbered)),
                "highest": array_of(str(offsets[flow_id]) for flow_id in numbered),
            }
            cursor.execute(_NUMBER, parameters)
        return numbered


def _locked(cursor: CursorWrapper, lock: str, flow_ids: Collection[UUID]) -> tuple[dict[UUID, int], Numbered]:
    """Return the highest offsets of the streams that are locked now, and what is numbered in them: nothing yet."""
    cursor.execute(lock, [array_of(map(str, flow_ids))])
    offsets, numbered = {}, Numbered()
    for flow_id, offset, organization_id in cursor.fetchall():
        offsets[flow_id] = offset
        numbered.organizations[flow_id] = organization_id
    return offsets, numbered


def flows_waiting(*, older_than: timedelta, limit: int = 1000) -> list[UUID]:
    """Return flows whose events have waited longer than that for a number: their hint was lost."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING, [older_than.total_seconds(), limit])
        return [row[0] for row in cursor.fetchall()]


def flows_waiting_of(flow_ids: Collection[UUID], *, older_than: timedelta) -> list[UUID]:
    """Return those of the flows whose events have waited longer than that."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING_OF, [list(flow_ids), older_than.total_seconds()])
        return [row[0] for row in cursor.fetchall()]


def flows_waiting_in(organization_ids: Collection[UUID], *, older_than: timedelta, limit: int = 1000) -> list[UUID]:
    """Return flows of the organizations whose events have waited longer than that, those that wait longest first."""
    with connection.cursor() as cursor:
        cursor.execute(_WAITING_IN, [list(organization_ids), older_than.total_seconds(), limit])
        return [row[0] for row in cursor.fetchall()]


def read_events(flow_id: UUID, *, since: int, limit: int) -> list[EventRow]:
    """Return at most `limit` numbered events after the offset `since`, in order."""
    with connection.cursor() as cursor:
        cursor.execute(_READ, {"flow": flow_id, "since": since, "limit": limit})
        rows: list[EventRow] = cursor.fetchall()
        return rows


def prune(*, before: datetime, batch: int = 10_000) -> int:
    """Remove numbered events older than `before`, in batches; clients that want them get a reset. Returns how many."""
    removed = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_PRUNE, {"before": before, "limit": batch})
            count: int = cursor.fetchone()[0]
        removed += count
        if count < batch:
            return removed
