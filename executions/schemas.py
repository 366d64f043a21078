"""Request schemas of flows, executions and task statuses."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from executions.listing import MAX_PAGE
from executions.models import ExecutionStatus
from flowplatform.schemas import Body, Identifier, Moment, Query, QueryText

MAX_TASKS = 10_000

TaskName = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class TaskDefinition(Body):
    """One task of a flow, and the tasks that have to be done before it."""

    name: TaskName
    title: Annotated[str, StringConstraints(max_length=255)] | None = None
    depends_on: list[TaskName] = Field([], max_length=MAX_TASKS)


class FlowDefinition(Body):
    """The tasks of a flow and how they depend on each other."""

    tasks: list[TaskDefinition] = Field(min_length=1, max_length=MAX_TASKS)


class FlowBody(Body):
    """A new flow."""

    display_name: str = Field(min_length=1, max_length=255)
    description: str = Field("", max_length=5000)
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
    input: dict[str, Any] = {}


class TaskStatusUpdate(Body):
    """One status update."""

    task_name: str = Field(min_length=1, max_length=255)
    status: str = Field(min_length=1, max_length=50)


class TaskStatusBatch(Body):
    """What a worker reports: 1 to 100 updates, applied in order, all or none."""

    statuses: list[TaskStatusUpdate] = Field(min_length=1, max_length=100)


def _listed(value: object) -> object:
    """Accept `?status=a&status=b` and `?status=a,b`."""
    values = value if isinstance(value, list) else [value]
    return [part for text in values for part in str(text).split(",") if part]


Statuses = Annotated[list[ExecutionStatus], BeforeValidator(_listed)]


def _repeated(value: object) -> object:
    """Accept one value and several."""
    return value if isinstance(value, list) else [value]


Texts = Annotated[list[QueryText], BeforeValidator(_repeated), Field(max_length=10)]


class PageQuery(Query):
    """A page of a list, by number."""

    page: int = Field(1, ge=1, le=MAX_PAGE)
    page_size: int = Field(100, ge=1, le=1000)


class FlowExecutionsQuery(PageQuery):
    """Which executions, in which order."""

    flow_id: UUID
    status: Statuses = []
    status_exclude: Statuses = []
    tags: Texts = Field([], description="`type:tag` or `tag`; of several each one has to be there, on any task.")
    created_after: Moment | None = None
    created_before: Moment | None = None
    updated_after: Moment | None = None
    updated_before: Moment | None = None
    sort_field: Literal["created_at", "updated_at"] = "created_at"
    sort_direction: Literal["asc", "desc"] = "desc"
    page_size: int = Field(10, ge=1, le=1000)
    include_run_number: bool = False


def _not_deleted(status: ExecutionStatus) -> ExecutionStatus:
    if status == ExecutionStatus.DELETED:
        raise PydanticCustomError("not_a_status", "DELETE the execution to delete it")
    return status


class ExecutionStatusQuery(Query):
    """The status that a service gives to an execution."""

    status: Annotated[ExecutionStatus, AfterValidator(_not_deleted)]


class CursorQuery(Query):
    """A part of a list, newest first, by cursor."""

    limit: int = Field(100, ge=1, le=1000)
    cursor: QueryText | None = Field(None, description="`next_cursor` of the part before.")


class TaskStatusesQuery(CursorQuery):
    """The history of an execution, or of one of its tasks."""

    task_name: QueryText | None = None


class TaskOutputsQuery(CursorQuery):
    """The task outputs of an execution, or of one of its tasks."""

    flow_execution_id: UUID
    task_name: QueryText | None = None
