"""The status batch, the platform's main job: history, derived state and one event, in one statement.

Order is what makes it right under concurrency. The output rows are locked first, sorted by task name, so that batches
never deadlock. The history is inserted from what that returns, so a row gets its position while its task is locked,
and the event from what the history returns, so it gets its id after that. Parts of a statement that do not read from
each other run in no promised order. So per task the newest position, the derived state and the last event always
agree.

The statement is its own transaction: one way to the database and back. It also asks whether the token still holds.
Where that is not so, or the execution is deleted or has stale tasks, or the Idempotency-Key was used before, it writes
nothing; what there is to do then is done in a transaction of several statements.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any
from uuid import UUID

import uuid_utils
from django.db import IntegrityError, connection
from rest_framework.exceptions import AuthenticationFailed, NotFound

from executions.definitions import refuse_unknown_tasks
from executions.facts import ExecutionFacts, facts_of
from executions.schemas import TaskStatusUpdate
from executions.serializers import TaskStatusAnswer
from executions.staleness import note_started
from executions.task_changes import TaskChanges
from flowplatform import metrics
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.services import TOKEN_HOLDS, token_holds
from flowplatform.encoding import array_of, object_sql
from flowplatform.idempotency.services import IS_NEW, KEEP, RequestKey, once
from flowplatform.postgresql.outcome import committing
from flowplatform.transactions import certain, retried, retried_transaction
from notifications import publish

_CHANGE = """
    execution AS (
        SELECT id, organization_id FROM executions_flowexecution WHERE id = %(execution)s AND status <> 'deleted' {only}
    ), reported AS (
        SELECT uid, task_name, status, place
        FROM unnest(%(uids)s::uuid[], %(names)s::text[], %(statuses)s::text[])
             WITH ORDINALITY AS item (uid, task_name, status, place)
    ), newest AS (
        SELECT DISTINCT ON (task_name) uid, task_name, status FROM reported ORDER BY task_name, place DESC
    ), state AS (
        INSERT INTO executions_taskoutput AS output (
            id, organization_id, flow_execution_id, task_name, processing_status, created_at, updated_at, modified_by
        )
        SELECT newest.uid, execution.organization_id, execution.id, newest.task_name, newest.status,
               clock_timestamp(), clock_timestamp(), %(actor)s
        FROM newest CROSS JOIN execution
        ORDER BY newest.task_name
        ON CONFLICT (organization_id, flow_execution_id, task_name) DO UPDATE
            SET processing_status = excluded.processing_status,
                updated_at = clock_timestamp(),
                modified_by = excluded.modified_by
        RETURNING output.organization_id, output.flow_execution_id, output.task_name
    ), history AS (
        INSERT INTO executions_taskstatus (uid, organization_id, flow_execution_id, task_name, status, created_at)
        SELECT reported.uid, state.organization_id, state.flow_execution_id, state.task_name, reported.status,
               clock_timestamp()
        FROM reported JOIN state USING (task_name)
        ORDER BY reported.place
        RETURNING *
    ), answer AS (
        SELECT organization_id, flow_execution_id, json_agg({row} ORDER BY position) AS statuses,
               min(position) AS first
        FROM history GROUP BY organization_id, flow_execution_id
    ) {further}
"""
_ROW = object_sql(TaskStatusAnswer, "history", id="history.uid")
_IN_THE_SIMPLE_CASE = f"""
    AND {TOKEN_HOLDS} AND NOT EXISTS (
        SELECT FROM executions_taskoutput WHERE flow_execution_id = %(execution)s AND stale_status = 'stale'
    )
"""
_SIMPLE_CHANGE = _CHANGE.format(row=_ROW, only=_IN_THE_SIMPLE_CASE, further="")
_SIMPLE_CHANGE_ONCE = _CHANGE.format(
    row=_ROW,
    only=f"{_IN_THE_SIMPLE_CASE} AND {IS_NEW}",
    further=f", kept AS ({KEEP.format(answer='int8send(first) || %(uids_kept)s', table='answer')})",
)
_CHANGE_IN_ANY_CASE = _CHANGE.format(row=_ROW, only="", further="")

_EVENT = """
    SELECT organization_id, %(flow)s::uuid AS flow_id, flow_execution_id, 'task_status.added' AS type,
           json_build_object('statuses', statuses) AS data
    FROM answer
"""

_batch_items = metrics.batch_items.labels("status")
# The answer once more, if the batch is in the history, of which it has no row before the position `first`.
_WRITTEN = f"""
    SELECT (json_agg({_ROW} ORDER BY position))::text FROM (
        SELECT * FROM executions_taskstatus
        WHERE flow_execution_id = %(execution)s AND position >= %(first)s AND uid = ANY(%(uids)s::uuid[])
        ORDER BY position LIMIT %(count)s
    ) AS history
"""  # noqa: S608  (made of our own names only)


def record_task_statuses(
    *, actor: Actor, execution_id: UUID, updates: Sequence[TaskStatusUpdate], key: RequestKey | None = None
) -> bytes:
    """Append 1 to 100 updates to the history, recalculate the state of their tasks and publish one event.

    Returns the answer of the contract, an array in request order, already encoded: it is the event's data too. With a
    `key` that was answered before it is that answer, and nothing is written.
    Raises 404 for an execution that is missing, deleted or foreign, 400 for a task name its version does not define,
    and 401 if the actor's token has ended meanwhile.
    """
    facts = facts_of(actor, execution_id)
    known = facts.task_names
    refuse_unknown_tasks((update.task_name, known) for update in updates)
    batch = StatusBatch(actor, execution_id, facts, updates)
    answer = certain(partial(batch.write, key), batch.find)
    _batch_items.observe(len(updates))
    return answer


class StatusBatch:
    """Updates that fit their flow version, and the ways to write them."""

    def __init__(
        self, actor: Actor, execution_id: UUID, facts: ExecutionFacts, updates: Sequence[TaskStatusUpdate]
    ) -> None:
        self._actor = actor
        self._facts = facts
        self._names = [update.task_name for update in updates]
        uids = [uuid_utils.uuid7() for _ in updates]
        self._uids = [str(uid) for uid in uids]
        self._parameters: dict[str, Any] = {
            "flow": facts.flow_id,
            "execution": execution_id,
            "actor": actor.name,
            "token": actor.token_id,
            "uids": array_of(self._uids),
            "uids_kept": b"".join(uid.bytes for uid in uids),
            "names": array_of(self._names),
            "statuses": array_of(update.status for update in updates),
        }

    def write(self, key: RequestKey | None) -> bytes:
        """Write the batch, once per key, and return its answer."""
        return self._write_if_simple(key) or self._write_in_transaction(key)

    def find(self) -> bytes | None:
        """Return the answer of this batch, and of no repetition of it, if it was written."""
        return self._written(0, self._uids)

    def _recalled(self, kept: bytes) -> bytes:
        """Return the answer to a key, made of the history again: else every batch with a key would be kept twice.

        What is kept is the position of the first row and the ids of all; beside stale tasks it is the answer itself.
        """
        if kept.startswith(b"["):  # no position is ever as large as that
            return kept
        uids = [str(UUID(bytes=kept[at : at + 16])) for at in range(8, len(kept), 16)]
        return self._written(int.from_bytes(kept[:8], signed=True), uids) or b"[]"

    def _written(self, first: int, uids: list[str]) -> bytes | None:
        looked_for: dict[str, Any] = {"first": first, "uids": array_of(uids), "count": len(uids)}
        with connection.cursor() as cursor:
            cursor.execute(_WRITTEN, {**self._parameters, **looked_for})
            (statuses,) = cursor.fetchone()
        return statuses.encode() if statuses else None

    @retried
    def _write_if_simple(self, key: RequestKey | None) -> bytes | None:
        """Write the batch by one statement; write nothing and return `None` where it is not so simple."""
        try:
            with committing(connection):
                return self._run(_SIMPLE_CHANGE_ONCE, **key.parameters) if key else self._run(_SIMPLE_CHANGE)
        except IntegrityError:
            if key is None:
                raise
            return None  # the first request with this key has ended between our look and our write

    @retried_transaction
    def _write_in_transaction(self, key: RequestKey | None) -> bytes:
        """Write the batch once per key. Raise 404 if the execution was deleted, 401 for an ended token."""
        if not token_holds(self._actor):
            raise AuthenticationFailed
        return once(key, self._write, recall=self._recalled)

    def _write(self) -> bytes:
        return self._run(_SIMPLE_CHANGE) or self._write_beside_stale_tasks()

    def _write_beside_stale_tasks(self) -> bytes:
        answer = self._run(_CHANGE_IN_ANY_CASE)
        if answer is None:
            raise NotFound
        changes = TaskChanges(self._actor, self._facts, self._parameters["execution"])
        note_started(changes, self._names, self._uids)
        changes.publish()
        return answer

    def _run(self, change: str, **parameters: Any) -> bytes | None:
        """Run the statement; return the statuses as they were written, encoded, or `None` if nothing was."""
        returned = publish(
            selected={
                "change": change,
                "query": _EVENT,
                "parameters": {**self._parameters, **parameters},
                "returning": "(SELECT statuses::text FROM answer)",
            }
        )
        return returned[0][0].encode() if returned else None
