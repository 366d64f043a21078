"""The status batch, the platform's main job: history, derived state and one event, in two statements.

Order is what makes it right under concurrency. The output rows are locked first, sorted by task name, so that batches
never deadlock. The history is inserted from what the upsert returns, so a row gets its position while its task is
locked; independent parts of one statement run in no promised order. The event follows as a statement of
its own. So per task the newest position, the derived state and the last event always tell the same.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson
import uuid_utils.compat as uuid_utils
from django.db import connection
from rest_framework.exceptions import NotFound

from executions.definitions import task_names
from executions.models import FlowExecution
from executions.schemas import TaskStatusUpdate
from executions.serializers import task_status_answer
from flowplatform.accounts.actors import Actor
from flowplatform.encoding import encode
from flowplatform.errors import BadRequest
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
        RETURNING output.organization_id, output.flow_execution_id, output.task_name
    )
    INSERT INTO executions_taskstatus (uid, organization_id, flow_execution_id, task_name, status, created_at)
    SELECT reported.uid, state.organization_id, state.flow_execution_id, state.task_name, reported.status,
           clock_timestamp()
    FROM reported JOIN state USING (task_name)
    ORDER BY reported.place
    RETURNING uid, created_at
"""


@dataclass(frozen=True, slots=True)
class ExecutionFacts:
    """What never changes about an execution; whether it was deleted is asked by the write itself."""

    organization_id: UUID
    flow_id: UUID
    flow_version: int


def record_task_statuses(
    *, actor: Actor, execution_id: UUID, updates: Sequence[TaskStatusUpdate], key: RequestKey | None = None
) -> bytes:
    """Append 1 to 100 updates to the history, recalculate the state of their tasks and publish one event.

    Returns the answer of the contract, an array in request order, already encoded: it is the event's data too. With a
    `key` that was answered before it is that answer, and nothing is written.
    Raises 404 for an execution that is missing, deleted or foreign, 400 for a task name its version does not define.
    """
    facts = _facts(execution_id)
    if facts is None or not actor.acts_in(facts.organization_id):
        raise NotFound
    version = (facts.flow_id, facts.flow_version)
    _refuse_unknown(updates, task_names([version])[version])
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
        created_at = dict(cursor.fetchall())
    if not created_at:  # deleted before the write
        raise NotFound
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
    return answer


def _refuse_unknown(updates: Sequence[TaskStatusUpdate], known: frozenset[str]) -> None:
    """Raise 400 with the index and name of every task that the flow version does not define."""
    unknown = [
        {"index": index, "task_name": update.task_name}
        for index, update in enumerate(updates)
        if update.task_name not in known
    ]
    if unknown:
        raise BadRequest("The flow version does not define these tasks; nothing was written.", details=unknown)


def _facts(execution_id: UUID) -> ExecutionFacts | None:
    try:
        return _known_facts(execution_id)
    except FlowExecution.DoesNotExist:
        return None


@lru_cache(maxsize=10_000)
def _known_facts(execution_id: UUID) -> ExecutionFacts:
    """Remember the facts of executions that workers report to; a missing one raises and is not remembered."""
    row = FlowExecution.objects.values_list("organization_id", "flow_id", "flow_version").get(pk=execution_id)
    return ExecutionFacts(*row)
