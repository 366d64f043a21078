"""Writes to flows and executions: each one a function and one transaction, with one event where a run changes."""

from typing import Any
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from executions.definitions import check_definition
from executions.locks import hold_execution
from executions.models import ExecutionStatus, Flow, FlowExecution, FlowVersion
from executions.schemas import FlowDefinition
from executions.serializers import execution_answer
from flowplatform.accounts.actors import Actor
from flowplatform.transactions import retried_transaction
from notifications import publish


@retried_transaction
def create_flow(
    *, actor: Actor, organization_id: UUID, display_name: str, description: str, definition: FlowDefinition
) -> Flow:
    """Register a flow with its first version; raise 400 for a broken definition."""
    check_definition(definition)
    flow = Flow.objects.create(
        organization_id=organization_id, display_name=display_name, description=description, modified_by=actor.name
    )
    _add_version(flow, definition, actor)
    publish(opening=(organization_id, flow.pk))
    return flow


@retried_transaction
def replace_definition(*, actor: Actor, flow: Flow, definition: FlowDefinition) -> Flow:
    """Add a version to a flow; executions keep the one they are pinned to. Raise 400 for a broken definition."""
    check_definition(definition)
    flow = Flow.objects.select_for_update(no_key=True).get(pk=flow.pk)  # one new number at a time
    flow.version += 1
    flow.modified_by = actor.name
    flow.save(update_fields=["version", "modified_by", "updated_at"])
    _add_version(flow, definition, actor)
    return flow


def _add_version(flow: Flow, definition: FlowDefinition, actor: Actor) -> None:
    flow.definition = definition.model_dump(exclude_none=True)
    FlowVersion.objects.create(
        organization_id=flow.organization_id,
        flow=flow,
        number=flow.version,
        definition=flow.definition,
        created_by=actor.name,
    )


@retried_transaction
def queue_execution(*, actor: Actor, flow: Flow, input: dict[str, Any]) -> FlowExecution:
    """Queue an execution of the flow's newest version."""
    # The flow's row is held until commit: run numbers have no gaps and the version is the newest at this moment.
    Flow.objects.filter(pk=flow.pk).update(runs=F("runs") + 1)
    flow.refresh_from_db(fields=["runs", "version"])
    execution = FlowExecution.objects.create(
        organization_id=flow.organization_id,
        flow=flow,
        flow_version=flow.version,
        run_number=flow.runs,
        input=input,
        modified_by=actor.name,
    )
    _publish_change("flow_execution.created", execution)
    return execution


@retried_transaction
def change_execution_status(*, actor: Actor, execution_id: UUID, status: str) -> FlowExecution:
    """Give an execution a status; the same one again changes nothing. Raise 404 if it was deleted meanwhile."""
    execution = hold_execution(execution_id)
    set_execution_status(execution, status, actor)
    return execution


def set_execution_status(execution: FlowExecution, status: str, actor: Actor) -> None:
    """Give an execution, which is locked, a status and tell of it; the same one again changes nothing."""
    if execution.status != status:
        _set_status(execution, status, actor)
        _publish_change("flow_execution.updated", execution)


_FINISHED = (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)


@retried_transaction
def request_cancel(*, actor: Actor, execution_id: UUID) -> None:
    """Ask the workers of an execution to stop; what is finished stays as it is. Raise 404 if it was deleted meanwhile.

    Workers confirm with the status `cancelled`: the platform does not run the tasks and cannot stop them itself.
    """
    execution = hold_execution(execution_id)
    if execution.status not in _FINISHED:
        set_execution_status(execution, ExecutionStatus.CANCEL_REQUESTED, actor)


@retried_transaction
def delete_execution(*, actor: Actor, execution_id: UUID) -> None:
    """Delete an execution softly; deleting it again changes nothing."""
    execution = FlowExecution.objects.select_for_update(no_key=True).get(pk=execution_id)
    if execution.status != ExecutionStatus.DELETED:
        _set_status(execution, ExecutionStatus.DELETED, actor)
        _publish_change("flow_execution.deleted", execution)


def _set_status(execution: FlowExecution, status: str, actor: Actor) -> None:
    execution.status, execution.modified_by, execution.updated_at = status, actor.name, timezone.now()
    execution.save(update_fields=["status", "modified_by", "updated_at"])


def _publish_change(event: str, execution: FlowExecution) -> None:
    publish((execution.organization_id, execution.flow_id, event, execution.pk, execution_answer(execution)))
