"""What must hold after every fault, asked of the database itself and of every socket."""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import psycopg

from tests.faults.audience import Audience, all_events
from tests.faults.ledger import Ledger, StatusBatch

Database = psycopg.Connection[dict[str, Any]]

DELIVERY = 15.0  # seconds: the contract's promise for when Redis or Celery do not work

_WAITING = 'SELECT count(*) AS waiting FROM notifications_event WHERE "offset" IS NULL AND flow_id = ANY(%s::uuid[])'

_EVENTS = """
    SELECT flow_id::text, count(*) AS events FROM notifications_event WHERE flow_id = ANY(%s::uuid[]) GROUP BY flow_id
"""

_HISTORY = """
    SELECT uid::text AS id, task_name, status FROM executions_taskstatus WHERE flow_execution_id = ANY(%s::uuid[])
    ORDER BY position
"""

# The derived state beside what the history says, for every task that either of them knows.
_DISAGREEING = """
    SELECT coalesce(newest.task_name, output.task_name) AS task_name, newest.status, output.processing_status
    FROM (
        SELECT DISTINCT ON (flow_execution_id, task_name) flow_execution_id, task_name, status
        FROM executions_taskstatus WHERE flow_execution_id = ANY(%(executions)s::uuid[])
        ORDER BY flow_execution_id, task_name, position DESC
    ) AS newest
    FULL JOIN (
        SELECT flow_execution_id, task_name, processing_status
        FROM executions_taskoutput WHERE flow_execution_id = ANY(%(executions)s::uuid[])
    ) AS output USING (flow_execution_id, task_name)
    WHERE newest.status IS DISTINCT FROM output.processing_status
"""

_TOLD = """
    SELECT status ->> 'id' AS id
    FROM notifications_event, json_array_elements(data -> 'statuses') AS status
    WHERE type = 'task_status.added' AND flow_execution_id = ANY(%s::uuid[])
"""

_LIVE_TAGS = """
    SELECT flow_execution_id::text AS execution_id, task_name, tag FROM tags_tasktag
    WHERE status = 'active' AND flow_execution_id = ANY(%s::uuid[])
"""


def events_of(database: Database, flow_ids: Sequence[str]) -> dict[str, int]:
    """Return how many events each flow has, with a number or not."""
    rows = database.execute(_EVENTS, [list(flow_ids)])
    return {row["flow_id"]: row["events"] for row in rows}


def settled(database: Database, flow_ids: Sequence[str], seconds: float = DELIVERY) -> Iterator[str]:
    """Wait until every event has its number; yield a problem if that takes too long."""
    deadline = time.monotonic() + seconds
    waiting = 1
    while waiting and time.monotonic() < deadline:
        row = database.execute(_WAITING, [list(flow_ids)]).fetchone()
        assert row is not None
        waiting = row["waiting"]
        time.sleep(0.05)
    if waiting:
        yield f"{waiting} events have no number after {seconds:.0f} s"


def written(database: Database, ledger: Ledger, executions: Sequence[str]) -> Iterator[str]:
    """Compare the history with the ledger: what was acknowledged is there once, and every batch whole or absent."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in database.execute(_HISTORY, [list(executions)]):
        found[row["status"]].append(row)
    for batch in ledger.status_batches:
        yield from _judged(batch, found.pop(batch.marker, []))
    if found:
        yield f"statuses that nobody sent: {sorted(found)[:3]}"


def _judged(batch: StatusBatch, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    tasks = [row["task_name"] for row in rows]
    if batch.outcome == "acknowledged":
        if [row["id"] for row in rows] != list(batch.ids) or tasks != list(batch.tasks):
            yield f"{batch.marker} was acknowledged with {len(batch.tasks)} statuses, and {len(rows)} are there"
    elif batch.outcome == "refused" and rows:
        yield f"{batch.marker} was answered by 'nothing was written', and {len(rows)} statuses are there"
    elif rows and tasks != list(batch.tasks):
        yield f"{batch.marker} is there in part: {len(rows)} of {len(batch.tasks)}"


def derived(database: Database, executions: Sequence[str]) -> Iterator[str]:
    """Recompute every task's state from the history and compare."""
    for row in database.execute(_DISAGREEING, {"executions": list(executions)}).fetchmany(3):
        yield f"the state of {row['task_name']} is {row['processing_status']}, its history says {row['status']}"


def told(database: Database, executions: Sequence[str]) -> Iterator[str]:
    """Compare the event log with the history: every status was told once, and nothing else."""
    events = Counter(row["id"] for row in database.execute(_TOLD, [list(executions)]))
    history = Counter(row["id"] for row in database.execute(_HISTORY, [list(executions)]))
    if events != history:
        yield f"events tell {(events - history).total()} statuses too many and {(history - events).total()} too few"


def tagged(database: Database, ledger: Ledger, executions: Sequence[str]) -> Iterator[str]:
    """Compare the live tags with a replay of the acknowledged operations."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for row in database.execute(_LIVE_TAGS, [list(executions)]):
        found[row["execution_id"]].add((row["task_name"], row["tag"]))
    for execution_id in executions:
        expected = ledger.tags.get(execution_id, set())
        if found[execution_id] != expected:
            yield f"live tags {sorted(found[execution_id] ^ expected)[:3]} differ from a replay"


def converged(
    audience: Audience, ports: Sequence[int], token: str, flow_ids: Sequence[str], seconds: float = DELIVERY
) -> Iterator[str]:
    """Wait until every socket has the events that `GET /events` tells, in order, without gap or repetition."""
    deadline = time.monotonic() + seconds
    for flow_id in flow_ids:
        expected = all_events(ports, token, flow_id)
        if [event["offset"] for event in expected] != list(range(1, len(expected) + 1)):
            yield f"the offsets over HTTP are no sequence: {[event['offset'] for event in expected][:20]}"
        watchers = [watcher for watcher in audience.watchers if watcher.flow_id == flow_id]
        behind = watchers
        while (behind := [one for one in behind if len(one.events) < len(expected)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        if behind:
            where = sorted({one.position for one in behind})
            count = f"{len(behind)} of {len(watchers)}"
            yield f"{count} sockets are at {where[:3]} of {len(expected)} events after {seconds:.0f} s"
        different = [one for one in watchers if one not in behind and one.events != expected]
        if different:
            yield f"{len(different)} of {len(watchers)} sockets were told other events than GET /events tells"
    for watcher in audience.watchers:
        yield from watcher.problems[:1]
