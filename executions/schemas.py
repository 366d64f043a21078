"""Request schemas of flows, executions and task statuses."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from executions.listing import MAX_PAGE
from executions.models import EditedStatus, ExecutionStatus, StaleStatus
from flowplatform.openapi.examples import CURSOR, IDS, TASKS
from flowplatform.schemas import WHOLE, Body, Identifier, Moment, Query, QueryText

MAX_TASKS = 10_000

TaskName = Annotated[str, StringConstraints(min_length=1, max_length=200), Field(examples=["extract"])]


class TaskDefinition(Body):
    """One task of a flow, and the tasks that have to be done before it."""

    name: TaskName
    title: Annotated[str, StringConstraints(max_length=255)] | None = Field(None, examples=["Read the text"])
    depends_on: list[TaskName] = Field([], max_length=MAX_TASKS)


class FlowDefinition(Body):
    """The tasks of a flow and how they depend on each other."""

    tasks: list[TaskDefinition] = Field(min_length=1, max_length=MAX_TASKS, examples=[TASKS])


class FlowBody(Body):
    """A new flow."""

    display_name: str = Field(min_length=1, max_length=255, examples=["Invoices"])
    description: str = Field("", max_length=5000, examples=["From the scan to the approval"])
    definition: FlowDefinition


class FlowQuery(Query):
    """Which version of a flow."""

    version: int | None = Field(None, ge=1, le=2**31 - 1, description="An older version; the newest without it.")


class DefinitionBody(Body):
    """A new version of a flow."""

    definition: FlowDefinition


class FlowExecutionBody(Body):
    """A new execution of a flow."""

    flow_id: Identifier
    input: dict[str, Any] = Field({}, examples=[{"month": "2026-11"}])


class TaskStatusUpdate(Body):
    """One status update."""

    task_name: str = Field(min_length=1, max_length=255, examples=["extract"])
    status: str = Field(min_length=1, max_length=50, examples=["completed"])


class TaskStatusBatch(Body):
    """What a worker reports: 1 to 100 updates, applied in order, all or none."""

    statuses: list[TaskStatusUpdate] = Field(min_length=1, max_length=100)


ProcessingStatus = Annotated[str, StringConstraints(min_length=1, max_length=50), Field(examples=["completed"])]
AttemptNumber = Annotated[int, Field(ge=0, le=2**31 - 1), WHOLE]


class TaskExecutionBody(Body):
    """What a worker reports of an attempt. A field that is left out stays as it is; null empties it."""

    flow_execution_id: Identifier
    task_name: TaskName
    task_execution_idx: AttemptNumber
    processing_status: ProcessingStatus
    input: Any = Field(None, examples=[{"pages": 2}])
    output: Any = Field(None, examples=[{"total": 119.0}])
    error: Any = Field(None, examples=[None])
    started_at: Moment | None = None
    completed_at: Moment | None = None


class TaskExecutionEdit(Body):
    """A whole task execution, as it was read, with what a person changed in it.

    `updated_at` says on what the change was made. What the platform sets itself may be sent along and is ignored, so
    that an object can be sent back as it came.
    """

    id: Identifier = Field(examples=[IDS["task_execution_id"]])
    flow_execution_id: Identifier
    task_name: TaskName
    task_execution_idx: AttemptNumber
    updated_at: Moment
    processing_status: ProcessingStatus
    input: Any = Field(examples=[{"pages": 2}])
    output: Any = Field(examples=[{"total": 191.0}])
    error: Any = Field(examples=[None])
    started_at: Moment | None
    completed_at: Moment | None
    organization_id: Identifier | None = None
    created_at: Moment | None = Field(None, description="Ignored.")
    modified_by: str | None = Field(None, description="Ignored.", examples=["service:reader"])
    edited_status: Annotated[EditedStatus, Field(strict=False)] | None = Field(None, description="Ignored.")
    stale_status: Annotated[StaleStatus, Field(strict=False)] | None = Field(None, description="Ignored.")
    tags: list[dict[str, Any]] | None = Field(
        None, description="Ignored: tags are changed with PATCH /api/task-tags.", examples=[[]]
    )


class TaskOutputBody(Body):
    """What came of a task: a summary, the output, or both. One that is left out stays as it is; null empties it."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 3})

    flow_execution_id: Identifier
    task_name: TaskName
    summary: Any = Field(None, examples=["2 pages, 119.00 EUR"])
    output: Any = Field(None, examples=[{"total": 119.0}])

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_fields_set & {"summary", "output"}:
            raise PydanticCustomError("missing", "summary or output is required")
        return self


def _listed(value: object) -> object:
    """Accept `?status=a&status=b` and `?status=a,b`."""
    values = value if isinstance(value, list) else [value]
    return [part for text in values for part in str(text).split(",") if part]


Statuses = Annotated[list[ExecutionStatus], BeforeValidator(_listed)]


def _repeated(value: object) -> object:
    """Accept one value and several."""
    return value if isinstance(value, list) else [value]


Texts = Annotated[list[QueryText], BeforeValidator(_repeated), Field(max_length=10)]


MOMENT = "The moment itself is left out; without a zone it is UTC."
PAGE_SIZE = "At most so many rows a page."


class PageQuery(Query):
    """A page of a list, by number."""

    page: int = Field(1, ge=1, le=MAX_PAGE, description="Which page, from 1.")
    page_size: int = Field(100, ge=1, le=1000, description=PAGE_SIZE)


class FlowExecutionsQuery(PageQuery):
    """Which executions, in which order."""

    flow_id: UUID = Field(description="The flow whose executions are listed.")
    status: Statuses = Field([], description="Only these; several repeated or separated by commas.")
    status_exclude: Statuses = Field([], description="None of these.", examples=[["failed"]])
    tags: Texts = Field(
        [],
        description="`type:tag` or `tag`; of several each one has to be there, on any task.",
        examples=[["review:approved"]],
    )
    created_after: Moment | None = Field(None, description=MOMENT)
    created_before: Moment | None = Field(None, description=MOMENT)
    updated_after: Moment | None = Field(None, description=MOMENT)
    updated_before: Moment | None = Field(None, description=MOMENT)
    sort_field: Literal["created_at", "updated_at"] = Field("created_at", description="What the order goes by.")
    sort_direction: Literal["asc", "desc"] = Field("desc", description="`desc` begins with the newest.")
    page_size: int = Field(10, ge=1, le=1000, description=PAGE_SIZE)
    include_run_number: bool = Field(False, description="Also `run_number`: it counts the executions of the flow.")


def _not_deleted(status: ExecutionStatus) -> ExecutionStatus:
    if status == ExecutionStatus.DELETED:
        raise PydanticCustomError("not_a_status", "DELETE the execution to delete it")
    return status


class ExecutionStatusQuery(Query):
    """The status that a service gives to an execution."""

    status: Annotated[ExecutionStatus, AfterValidator(_not_deleted)] = Field(
        description="Any but `deleted`: DELETE does that.",
        examples=["completed"],
        json_schema_extra={"enum": [status for status in ExecutionStatus if status != ExecutionStatus.DELETED]},
    )


class CursorQuery(Query):
    """A part of a list, newest first, by cursor."""

    limit: int = Field(100, ge=1, le=1000, description="At most so many rows.")
    cursor: QueryText | None = Field(None, description="`next_cursor` of the part before.", examples=[CURSOR])


class TaskStatusesQuery(CursorQuery):
    """The history of an execution, or of one of its tasks."""

    task_name: QueryText | None = Field(None, description="Only of this task.", examples=["extract"])


class TaskOutputsQuery(CursorQuery):
    """The task outputs of an execution, or of one of its tasks."""

    flow_execution_id: UUID = Field(description="The execution whose tasks are listed.")
    task_name: QueryText | None = Field(None, description="Only of this task.", examples=["extract"])


class TaskExecutionsQuery(TaskOutputsQuery):
    """The attempts of an execution's tasks, of one task, or with one number."""

    task_execution_idx: AttemptNumber | None = Field(None, description="Only attempts with this number.")


class EditQuery(Query):
    """What follows an edit."""

    execute_flow: bool = Field(False, description="Also queue what became stale again.")


class ExecuteQuery(Query):
    """What is queued again."""

    only_stale: bool = Field(False, description="Only stale tasks; without it every task that has reported.")
