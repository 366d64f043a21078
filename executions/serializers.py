"""Answers about flows, executions and tasks: the objects of the contract, made from the models."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from executions.models import EditedStatus, ExecutionStatus, FlowExecution, StaleStatus, TaskOutput, TaskStatus


class Answer(BaseModel):
    """An answer made from a model's attributes."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def of(cls, row: object) -> dict[str, Any]:
        """Return the answer for a row, ready to be encoded."""
        return cls.model_validate(row).model_dump()


class FlowAnswer(Answer):
    """A flow with the definition of its newest version."""

    id: UUID
    display_name: str
    description: str
    version: int
    definition: dict[str, Any]
    organization_id: UUID
    created_at: datetime
    updated_at: datetime
    modified_by: str


class FlowsAnswer(RootModel[list[FlowAnswer]]):
    """A page of flows."""


class FlowExecutionAnswer(Answer):
    """An execution."""

    id: UUID
    flow_id: UUID
    flow_version: int
    status: ExecutionStatus
    input: dict[str, Any]
    organization_id: UUID
    created_at: datetime
    updated_at: datetime
    modified_by: str


class ListedFlowExecutionAnswer(FlowExecutionAnswer):
    """An execution in a list."""

    run_number: int = Field(description="Counts the executions of the flow from 1; only with include_run_number.")


class FlowExecutionsAnswer(RootModel[list[ListedFlowExecutionAnswer]]):
    """A page of executions."""


class TaskStatusAnswer(Answer):
    """A row of the status history."""

    id: UUID
    flow_execution_id: UUID
    task_name: str
    status: str
    created_at: datetime
    organization_id: UUID


def task_status_answer(
    uid: UUID, flow_execution_id: UUID, task_name: str, status: str, created_at: datetime, organization_id: UUID
) -> dict[str, Any]:
    """Return a history row as the contract shows it. A plain dict: this is the hot path."""
    return {
        "id": uid,
        "flow_execution_id": flow_execution_id,
        "task_name": task_name,
        "status": status,
        "created_at": created_at,
        "organization_id": organization_id,
    }


class RecordedStatusesAnswer(RootModel[list[TaskStatusAnswer]]):
    """What a batch recorded, in request order."""


def status_answer(row: TaskStatus) -> dict[str, Any]:
    """Return a history row as the contract shows it; its public id is its `uid`."""
    return task_status_answer(
        row.uid, row.flow_execution_id, row.task_name, row.status, row.created_at, row.organization_id
    )


class TaskStatusesAnswer(BaseModel):
    """A part of the status history, newest first."""

    statuses: list[TaskStatusAnswer]
    next_cursor: str | None


class TaskOutputAnswer(Answer):
    """The derived state of a task."""

    id: UUID
    flow_execution_id: UUID
    task_name: str
    summary: Any
    output: Any
    tags: list[dict[str, Any]]
    processing_status: str | None
    edited_status: EditedStatus
    stale_status: StaleStatus
    error: Any
    created_at: datetime
    updated_at: datetime
    modified_by: str
    flow_version: int
    organization_id: UUID


class TaskOutputsAnswer(BaseModel):
    """A part of an execution's task outputs, newest first."""

    task_outputs: list[TaskOutputAnswer]
    next_cursor: str | None


def execution_answer(execution: FlowExecution, *, run_number: bool = False) -> dict[str, Any]:
    """Return an execution as the contract shows it, with its run number where a list was asked for it."""
    answer = FlowExecutionAnswer.of(execution)
    return {**answer, "run_number": execution.run_number} if run_number else answer


def task_output_answer(output: TaskOutput, flow_version: int, tags: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a task output as the contract shows it."""
    return {
        "id": output.id,
        "flow_execution_id": output.flow_execution_id,
        "task_name": output.task_name,
        "summary": output.summary,
        "output": output.output,
        "tags": tags,
        "processing_status": output.processing_status,
        "edited_status": output.edited_status,
        "stale_status": output.stale_status,
        "error": output.error,
        "created_at": output.created_at,
        "updated_at": output.updated_at,
        "modified_by": output.modified_by,
        "flow_version": flow_version,
        "organization_id": output.organization_id,
    }
