"""The status batch, the platform's main job: history, derived state and one event, in two statements.

Order is what makes it right under concurrency. The output rows are locked first, sorted by task name, so that batches
never deadlock. The history is inserted from what the upsert returns, so a row gets its position while its task is
locked; independent parts of one statement run in no promised order. The event follows as a statement of
its own. So per task the newest position, the derived state and the last event always tell the same.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
import uuid_utils.compat as uuid_utils
from django.db import connection
from rest_framework.exceptions import NotFound

from executions.definitions import refuse_unknown_tasks
from executions.facts import ExecutionFacts, facts_of
from executions.schemas import TaskStatusUpdate
from executions.serializers import task_status_answer
from executions.staleness import note_started
from executions.task_changes import TaskChanges
from flowplatform.accounts.actors import Actor
from flowplatform.encoding import encode
from flowplatform.idempotency.services import RequestKey, once
from flowplatform.transactions import retried_transaction
from notifications import publish

_WRITE = """
    WITH execution AS (
        SELECT id, organization_id FROM executions_flowexecution WHERE id = %(execution)s AND status <> 'deleted'
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
        ON CONFLICT (flow_execution_id, task_name) DO UPDATE
            SET processing_status = excluded.processing_status,
                updated_at = clock_timestamp(),
                modified_by = excluded.modified_by
        RETURNING output.organization_id, output.flow_execution_id, output.task_name, output.stale_status
    )
    INSERT INTO executions_taskstatus (uid, organization_id, flow_execution_id, task_name, status, created_at)
    SELECT reported.uid, state.organization_id, state.flow_execution_id, state.task_name, reported.status,
           clock_timestamp()
    FROM reported JOIN state USING (task_name)
    ORDER BY reported.place
    RETURNING uid, created_at, (SELECT bool_or(stale_status = 'stale') FROM state)
"""


def record_task_statuses(
    *, actor: Actor, execution_id: UUID, updates: Sequence[TaskStatusUpdate], key: RequestKey | None = None
) -> bytes:
    """Append 1 to 100 updates to the history, recalculate the state of their tasks and publish one event.

    Returns the answer of the contract, an array in request order, already encoded: it is the event's data too. With a
    `key` that was answered before it is that answer, and nothing is written.
    Raises 404 for an execution that is missing, deleted or foreign, 400 for a task name its version does not define.
    """
    facts = facts_of(actor, execution_id)
    known = facts.task_names
    refuse_unknown_tasks((update.task_name, known) for update in updates)
    return _write_once(key, actor, execution_id, facts, updates)


@retried_transaction
def _write_once(
    key: RequestKey | None,
    actor: Actor,
    execution_id: UUID,
    facts: ExecutionFacts,
    updates: Sequence[TaskStatusUpdate],
) -> bytes:
    return once(key, lambda: _write(actor, execution_id, facts, updates))


def _write(actor: Actor, execution_id: UUID, facts: ExecutionFacts, updates: Sequence[TaskStatusUpdate]) -> bytes:
    uids = [uuid_utils.uuid7() for _ in updates]
    parameters: dict[str, Any] = {
        "execution": execution_id,
        "actor": actor.name,
        "uids": uids,
        "names": [update.task_name for update in updates],
        "statuses": [update.status for update in updates],
    }
    with connection.cursor() as cursor:
        cursor.execute(_WRITE, parameters)
        rows = cursor.fetchall()
    if not rows:  # deleted before the write
        raise NotFound
    created_at = {uid: moment for uid, moment, _ in rows}
    answer = encode(
        [
            task_status_answer(
                uid, execution_id, update.task_name, update.status, created_at[uid], facts.organization_id
            )
            for uid, update in zip(uids, updates, strict=True)
        ]
    )
    data = {"statuses": orjson.Fragment(answer)}
    publish((facts.organization_id, facts.flow_id, "task_status.added", execution_id, data))
    if rows[0][2]:  # rarely: a task among them is stale
        changes = TaskChanges(actor, facts, execution_id)
        note_started(changes, parameters["names"], uids)
        changes.publish()
    return answer
