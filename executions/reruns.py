"""Running again: tasks that are stale, or all of an execution, go back into the queue for its workers."""

from typing import Any
from uuid import UUID

import uuid_utils.compat as uuid_utils
from django.db.models import QuerySet

from executions.facts import facts_of
from executions.locks import hold_execution, hold_tasks
from executions.models import ExecutionStatus, FlowExecution, StaleStatus, TaskOutput, TaskStatus
from executions.services import set_execution_status
from executions.staleness import QUEUED
from executions.task_changes import TaskChanges
from flowplatform.accounts.actors import Actor
from flowplatform.errors import Conflict
from flowplatform.transactions import retried_transaction

# A task that only ever reported attempts gets no history by being queued: its attempts decide its state.
_APPEND_TO_HISTORY = """
    INSERT INTO executions_taskstatus (uid, organization_id, flow_execution_id, task_name, status, created_at)
    SELECT item.uid, output.organization_id, output.flow_execution_id, output.task_name, 'queued', clock_timestamp()
    FROM unnest(%(uids)s::uuid[], %(names)s::text[]) WITH ORDINALITY AS item (uid, task_name, place)
    JOIN executions_taskoutput AS output
      ON output.organization_id = %(organization)s AND output.flow_execution_id = %(execution)s
     AND output.task_name = item.task_name
    WHERE EXISTS (
        SELECT FROM executions_taskstatus AS history
        WHERE history.flow_execution_id = output.flow_execution_id AND history.task_name = output.task_name
    ) OR NOT EXISTS (
        SELECT FROM executions_taskexecution AS attempt
        WHERE attempt.organization_id = output.organization_id
          AND attempt.flow_execution_id = output.flow_execution_id AND attempt.task_name = output.task_name
    )
    ORDER BY item.place
    RETURNING *
"""

_QUEUE_OUTPUTS = """
    UPDATE executions_taskoutput
    SET processing_status = 'queued', updated_at = clock_timestamp(), modified_by = %(actor)s
    WHERE organization_id = %(organization)s AND flow_execution_id = %(execution)s
      AND task_name = ANY(%(names)s::text[])
    RETURNING id, task_name
"""

_QUEUE_NEWEST_ATTEMPTS = """
    UPDATE executions_taskexecution AS attempt
    SET processing_status = 'queued', updated_at = clock_timestamp(), modified_by = %(actor)s
    FROM (
        SELECT DISTINCT ON (task_name) id FROM executions_taskexecution
        WHERE organization_id = %(organization)s AND flow_execution_id = %(execution)s
          AND task_name = ANY(%(names)s::text[])
        ORDER BY task_name, task_execution_idx DESC
    ) AS newest
    WHERE attempt.id = newest.id
    RETURNING attempt.id, attempt.task_name
"""

_EDITS_TAKE_EFFECT = """
    UPDATE {table} SET edited_status = 'edited_reexecuted', updated_at = clock_timestamp(), modified_by = %(actor)s
    WHERE flow_execution_id = %(execution)s AND edited_status = 'edited_not_reexecuted'
    RETURNING id, task_name
"""
_EDITED_ATTEMPTS = _EDITS_TAKE_EFFECT.format(table="executions_taskexecution")
_EDITED_OUTPUTS = _EDITS_TAKE_EFFECT.format(table="executions_taskoutput")


@retried_transaction
def execute_again(*, actor: Actor, execution_id: UUID, only_stale: bool) -> None:
    """Queue an execution again with every task that has reported, or with its stale ones; without any nothing changes.

    Raises 404 if the execution was deleted, 409 while it is being cancelled.
    """
    execution = hold_execution(execution_id)
    refuse_while_cancelling(execution)
    hold_tasks(execution_id)
    changes = TaskChanges(actor, facts_of(actor, execution_id), execution_id)
    queue_again(changes, actor, execution, only_stale=only_stale)
    changes.publish()


def refuse_while_cancelling(execution: FlowExecution) -> None:
    """Raise 409 while the workers of an execution have not confirmed that they stopped."""
    if execution.status == ExecutionStatus.CANCEL_REQUESTED:
        raise Conflict("The execution is being cancelled: it can run again once its status is cancelled.")


def queue_again(changes: TaskChanges, actor: Actor, execution: FlowExecution, *, only_stale: bool) -> None:
    """Queue an execution and its tasks, which are locked, and note what changed. Edits have taken effect with that.

    A task that is in the queue already stays there.
    """
    tasks = TaskOutput.objects.filter(flow_execution_id=execution.pk)
    if only_stale:
        tasks = tasks.filter(stale_status=StaleStatus.STALE)
    if tasks.exists() or not only_stale:
        _queue_tasks(changes, tasks)
        set_execution_status(execution, ExecutionStatus.QUEUED, actor)
    changes.update_attempts(_EDITED_ATTEMPTS)
    changes.update_outputs(_EDITED_OUTPUTS)


def _queue_tasks(changes: TaskChanges, tasks: QuerySet[Any, Any]) -> None:
    """Queue tasks; what the history tells of them needs no event of the output besides."""
    not_queued = tasks.exclude(processing_status=QUEUED) | tasks.filter(processing_status=None)
    names = list(not_queued.order_by("task_name").values_list("task_name", flat=True))
    told = _append_to_history(changes, names)
    changes.run(_QUEUE_OUTPUTS, names=sorted(told))
    changes.update_outputs(_QUEUE_OUTPUTS, names=[name for name in names if name not in told])
    changes.update_attempts(_QUEUE_NEWEST_ATTEMPTS, names=names)


def _append_to_history(changes: TaskChanges, names: list[str]) -> set[str]:
    """Append `queued` to the history of the tasks that have one; return their names."""
    uids = [uuid_utils.uuid7() for _ in names]
    parameters = {**changes.place, "names": names, "uids": uids}
    rows = list(TaskStatus.objects.raw(_APPEND_TO_HISTORY, parameters))
    changes.note_statuses(rows)
    return {row.task_name for row in rows}
