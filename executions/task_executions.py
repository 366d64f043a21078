"""Attempts of tasks: workers report them, people edit what they produced."""

from datetime import datetime, timedelta
from uuid import UUID

from rest_framework.exceptions import NotFound

from executions.definitions import downstream, refuse_unknown_tasks
from executions.facts import facts_of
from executions.locks import hold_execution, hold_task, hold_tasks
from executions.models import EditedStatus, TaskExecution, TaskOutput, TaskStatus
from executions.reruns import queue_again, refuse_while_cancelling
from executions.schemas import TaskExecutionBody, TaskExecutionEdit
from executions.staleness import after_report, mark_stale
from executions.task_changes import TaskChanges
from flowplatform.accounts.actors import Actor
from flowplatform.errors import Conflict, Unprocessable
from flowplatform.transactions import retried_transaction

_IDENTITY = ("flow_execution_id", "task_name", "task_execution_idx")
_REPORTED = ("processing_status", "input", "output", "error", "started_at", "completed_at")


@retried_transaction
def record_task_execution(*, actor: Actor, report: TaskExecutionBody) -> TaskExecution:
    """Insert or update an attempt as its worker reports it.

    Fields that the report leaves out stay as they are. The same report again makes the same attempt.
    Raises 404 for an execution that is missing, deleted or foreign, 400 for a task name its version does not define.
    """
    facts = facts_of(actor, report.flow_execution_id)
    refuse_unknown_tasks([(report.task_name, facts.task_names)])
    output = hold_task(actor, report.flow_execution_id, report.task_name)
    attempt = _attempt(facts.organization_id, report) or TaskExecution(
        organization_id=facts.organization_id,
        created_at=output.updated_at,
        **{field: getattr(report, field) for field in _IDENTITY},
    )
    attempt.stale_status = after_report(attempt, report.processing_status)
    _write(attempt, report, report.model_fields_set, actor, output.updated_at)
    _follow(output, attempt, with_output="output" in report.model_fields_set)
    changes = TaskChanges(actor, facts, report.flow_execution_id)
    changes.note(attempt, output)
    changes.publish()
    return attempt


@retried_transaction
def edit_task_execution(
    *, actor: Actor, execution_id: UUID, edit: TaskExecutionEdit, execute_flow: bool
) -> TaskExecution:
    """Replace what an attempt of the execution says by what a person made of it.

    1. Lock the execution and its tasks.
    2. Compare: what identifies the attempt may not differ (422), and it must be as it was when it was read (409).
    3. Write the attempt, and let the task's output follow it.
    4. Mark every task downstream of it stale.
    5. With `execute_flow`, queue what is stale again: 409 while the execution is being cancelled.
    6. Tell of every row that changed.
    """
    facts = facts_of(actor, execution_id)
    execution = hold_execution(execution_id)
    if execute_flow:
        refuse_while_cancelling(execution)
    hold_tasks(execution_id)
    attempt: TaskExecution | None = TaskExecution.objects.filter(pk=edit.id, flow_execution_id=execution_id).first()
    if attempt is None:
        raise NotFound
    _compare(attempt, edit)
    output = hold_task(actor, execution_id, attempt.task_name)
    attempt.edited_status = EditedStatus.REEXECUTED if execute_flow else EditedStatus.NOT_REEXECUTED
    _write(attempt, edit, _REPORTED, actor, output.updated_at)
    _follow(output, attempt, with_output=True)
    changes = TaskChanges(actor, facts, execution_id)
    changes.note(attempt, output)
    mark_stale(changes, downstream(facts.version, attempt.task_name))
    if execute_flow:
        queue_again(changes, actor, execution, only_stale=True)
    changes.publish()
    return attempt


def _attempt(organization_id: UUID, report: TaskExecutionBody) -> TaskExecution | None:
    identity = {field: getattr(report, field) for field in _IDENTITY}
    return TaskExecution.objects.filter(organization_id=organization_id, **identity).first()


def _compare(attempt: TaskExecution, edit: TaskExecutionEdit) -> None:
    """Raise 422 for an edit that would make it another attempt, 409 for one of an older state."""
    told = ("organization_id",) if edit.organization_id else ()
    wrong = [name for name in (*_IDENTITY, *told) if getattr(edit, name) != getattr(attempt, name)]
    if wrong:
        message = "This says which task execution it is and cannot be changed"
        raise Unprocessable([{"loc": ["body", name], "msg": message, "type": "read_only"} for name in wrong])
    if edit.updated_at != attempt.updated_at:
        raise Conflict("The task execution was changed since it was read: read it again and repeat the edit.")


def _write(
    attempt: TaskExecution,
    said: TaskExecutionBody | TaskExecutionEdit,
    fields: set[str] | tuple[str, ...],
    actor: Actor,
    now: datetime,
) -> None:
    """Take over what was said and save. `updated_at` grows with every change: it is what an edit is checked against."""
    for field in fields:
        setattr(attempt, field, getattr(said, field))
    attempt.modified_by = actor.name
    attempt.updated_at = max(now, attempt.updated_at + timedelta(microseconds=1)) if attempt.updated_at else now
    attempt.save()


def _follow(output: TaskOutput, written: TaskExecution, *, with_output: bool) -> None:
    """Recalculate a task's output row, which is locked, after an attempt was written.

    It follows the newest attempt. Its `output` may also have been set by itself (`POST /api/task-outputs`), so an
    attempt replaces it only when it says something of its output. Its `processing_status` belongs to the history; the
    attempts decide only where there is none.
    """
    of_task = {
        "organization_id": output.organization_id,
        "flow_execution_id": output.flow_execution_id,
        "task_name": output.task_name,
    }
    newest = TaskExecution.objects.filter(**of_task).latest("task_execution_idx")
    output.error, output.edited_status, output.stale_status = newest.error, newest.edited_status, newest.stale_status
    if with_output and newest == written:
        output.output = newest.output
    if not TaskStatus.objects.filter(**of_task).exists():
        output.processing_status = newest.processing_status
    output.save()
