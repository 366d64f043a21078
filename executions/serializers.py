"""Answers about flows, executions and tasks: the objects of the contract, made from the models."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel
from pydantic.json_schema import SkipJsonSchema

from executions.models import (
    EditedStatus,
    ExecutionStatus,
    FlowExecution,
    StaleStatus,
    TaskExecution,
    TaskOutput,
    TaskStatus,
)
from flowplatform.openapi.examples import CURSOR, IDS, TASKS
from flowplatform.schemas import Author

NextCursor = Annotated[str | None, Field(description="Of the next part; null at the end.", examples=[CURSOR])]
LiveTags = Annotated[
    list[dict[str, Any]],
    Field(
        description="The live tags of the task, as `GET /api/task-tags` shows them.",
        examples=[[{"tag": "approved", "tag_type": "review", "tag_metadata": None, "status": "active"}]],
    ),
]


class Answer(BaseModel):
    """An answer made from a model's attributes."""

    model_config = ConfigDict(from_attributes=True)

    @classmethod
    def of(cls, row: object) -> dict[str, Any]:
        """Return the answer for a row, ready to be encoded."""
        return cls.model_validate(row).model_dump()


class FlowAnswer(Answer):
    """A flow with the definition of its newest version."""

    id: UUID = Field(examples=[IDS["flow_id"]])
    display_name: str = Field(examples=["Invoices"])
    description: str = Field(examples=["From the scan to the approval"])
    version: int
    definition: dict[str, Any] = Field(description="As it was registered.", examples=[{"tasks": TASKS}])
    organization_id: UUID
    created_at: datetime
    updated_at: datetime
    modified_by: Author


class FlowsAnswer(RootModel[list[FlowAnswer]]):
    """A page of flows."""


class FlowExecutionAnswer(Answer):
    """An execution."""

    id: UUID = Field(examples=[IDS["flow_execution_id"]])
    flow_id: UUID
    flow_version: int
    status: ExecutionStatus
    input: dict[str, Any] = Field(examples=[{"month": "2026-11"}])
    organization_id: UUID
    created_at: datetime
    updated_at: datetime
    modified_by: Author


def _without_default(schema: dict[str, Any]) -> None:
    """A field that is not there at all is not null."""
    del schema["default"]


class ListedFlowExecutionAnswer(FlowExecutionAnswer):
    """An execution in a list."""

    run_number: int | SkipJsonSchema[None] = Field(
        None,
        description="Counts the executions of the flow from 1; only with include_run_number.",
        json_schema_extra=_without_default,
    )


class FlowExecutionsAnswer(RootModel[list[ListedFlowExecutionAnswer]]):
    """A page of executions."""


class TaskStatusAnswer(Answer):
    """A row of the status history."""

    id: UUID = Field(examples=[IDS["task_status_id"]])
    flow_execution_id: UUID
    task_name: str = Field(examples=["extract"])
    status: str = Field(examples=["completed"])
    created_at: datetime
    organization_id: UUID


class RecordedStatusesAnswer(RootModel[list[TaskStatusAnswer]]):
    """What a batch recorded, in request order."""


def status_answer(row: TaskStatus) -> dict[str, Any]:
    """Return a history row as the contract shows it; its public id is its `uid`."""
    return {
        "id": row.uid,
        "flow_execution_id": row.flow_execution_id,
        "task_name": row.task_name,
        "status": row.status,
        "created_at": row.created_at,
        "organization_id": row.organization_id,
    }


class TaskStatusesAnswer(BaseModel):
    """A part of the status history, newest first."""

    statuses: list[TaskStatusAnswer]
    next_cursor: NextCursor


class TaskExecutionAnswer(Answer):
    """One attempt of a task."""

    id: UUID = Field(examples=[IDS["task_execution_id"]])
    flow_execution_id: UUID
    task_execution_idx: int = Field(description="Counts the attempts of a task.", examples=[0])
    task_name: str = Field(examples=["extract"])
    created_at: datetime
    updated_at: datetime
    modified_by: Author
    processing_status: str = Field(examples=["completed"])
    edited_status: EditedStatus
    stale_status: StaleStatus
    input: Any = Field(examples=[{"pages": 2}])
    output: Any = Field(examples=[{"total": 119.0}])
    error: Any = Field(examples=[None])
    organization_id: UUID
    started_at: datetime | None
    completed_at: datetime | None
    tags: LiveTags


class TaskExecutionsAnswer(BaseModel):
    """A part of an execution's task executions, newest first."""

    task_executions: list[TaskExecutionAnswer]
    next_cursor: NextCursor


class TaskOutputAnswer(Answer):
    """The derived state of a task."""

    id: UUID = Field(examples=[IDS["task_output_id"]])
    flow_execution_id: UUID
    task_name: str = Field(examples=["extract"])
    summary: Any = Field(examples=["2 pages, 119.00 EUR"])
    output: Any = Field(examples=[{"total": 119.0}])
    tags: LiveTags
    processing_status: str | None = Field(description="Null while nothing was reported.", examples=["completed"])
    edited_status: EditedStatus
    stale_status: StaleStatus
    error: Any = Field(examples=[None])
    created_at: datetime
    updated_at: datetime
    modified_by: Author
    flow_version: int
    organization_id: UUID


class TaskOutputsAnswer(BaseModel):
    """A part of an execution's task outputs, newest first."""

    task_outputs: list[TaskOutputAnswer]
    next_cursor: NextCursor


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


def task_execution_answer(attempt: TaskExecution, tags: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a task execution as the contract shows it, with the live tags of its task."""
    return {
        "id": attempt.id,
        "flow_execution_id": attempt.flow_execution_id,
        "task_execution_idx": attempt.task_execution_idx,
        "task_name": attempt.task_name,
        "created_at": attempt.created_at,
        "updated_at": attempt.updated_at,
        "modified_by": attempt.modified_by,
        "processing_status": attempt.processing_status,
        "edited_status": attempt.edited_status,
        "stale_status": attempt.stale_status,
        "input": attempt.input,
        "output": attempt.output,
        "error": attempt.error,
        "organization_id": attempt.organization_id,
        "started_at": attempt.started_at,
        "completed_at": attempt.completed_at,
        "tags": tags,
    }
