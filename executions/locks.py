"""The locks of executions and tasks, always in this order: the execution, then its tasks by name.

A task is locked by its output row. Status batches lock the outputs they name in the same order and no execution, so an
edit of a whole graph, a batch and an attempt that is reported at the same moment wait for each other and never
deadlock.
"""

from collections.abc import Collection
from uuid import UUID

import uuid_utils.compat as uuid_utils
from django.db import connection
from rest_framework.exceptions import NotFound

from executions.models import ExecutionStatus, FlowExecution, TaskOutput
from flowplatform.accounts.actors import Actor
from flowplatform.encoding import array_of

# Written out because it is a part of every tag batch.
_HOLD_EXECUTIONS = """
    SELECT id FROM executions_flowexecution WHERE id = ANY(%s::uuid[]) AND status <> 'deleted'
    ORDER BY id FOR NO KEY UPDATE
"""

# `updated_at` is read from the clock after the row is locked, so it orders the changes of a task.
_HOLD_TASK = """
    INSERT INTO executions_taskoutput AS output (
        id, organization_id, flow_execution_id, task_name, created_at, updated_at, modified_by
    )
    SELECT %(id)s, organization_id, id, %(name)s, clock_timestamp(), clock_timestamp(), %(actor)s
    FROM executions_flowexecution WHERE id = %(execution)s AND status <> 'deleted'
    ON CONFLICT (organization_id, flow_execution_id, task_name) DO UPDATE
        SET updated_at = clock_timestamp(), modified_by = excluded.modified_by
    RETURNING output.*
"""


def hold_execution(execution_id: UUID) -> FlowExecution:
    """Lock an execution until the end of the transaction and return it; raise 404 if it was deleted."""
    execution: FlowExecution = FlowExecution.objects.select_for_update(no_key=True).get(pk=execution_id)
    if execution.status == ExecutionStatus.DELETED:
        raise NotFound
    return execution


def hold_executions(execution_ids: Collection[UUID]) -> None:
    """Lock executions until the end of the transaction, in the order of their ids; raise 404 if one was deleted."""
    with connection.cursor() as cursor:
        cursor.execute(_HOLD_EXECUTIONS, [array_of(map(str, execution_ids))])
        if len(cursor.fetchall()) < len(execution_ids):
            raise NotFound


def hold_task(actor: Actor, execution_id: UUID, task_name: str) -> TaskOutput:
    """Lock a task and return its output row, made if it is missing and touched by the actor now.

    Raises 404 if the execution was deleted.
    """
    parameters = {"id": uuid_utils.uuid7(), "execution": execution_id, "name": task_name, "actor": actor.name}
    rows = list(TaskOutput.objects.raw(_HOLD_TASK, parameters))
    if not rows:
        raise NotFound
    return rows[0]


def hold_tasks(execution_id: UUID) -> None:
    """Lock every task of an execution that has an output row."""
    rows = TaskOutput.objects.filter(flow_execution_id=execution_id).order_by("task_name")
    list(rows.select_for_update(no_key=True).values_list("pk"))
