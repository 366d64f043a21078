"""What the API answers with, as frozen dataclasses. Fields that this version does not know are ignored."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from datetime import datetime
from functools import cache
from typing import Any, Literal, NamedTuple, TypeVar, get_type_hints

M = TypeVar("M")

TagOutcome = Literal["added", "removed", "already_exists", "not_found"]


class StatusUpdate(NamedTuple):
    """One status of one task, as a worker reports it. A pair of texts will do as well."""

    task_name: str
    status: str


@dataclass(frozen=True, kw_only=True)
class TagChange:
    """One operation of a tag batch. Other metadata makes another tag."""

    operation: Literal["add", "remove"]
    flow_execution_id: str
    task_name: str
    tag: str
    tag_type: str
    tag_metadata: Any = None


@dataclass(frozen=True, kw_only=True)
class ExpectedTags:
    """The live tags of one type that a task had when its tags were looked at."""

    flow_execution_id: str
    task_name: str
    tag_type: str
    tag_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Flow:
    """A flow with the definition of its newest version, or of the one that was asked for."""

    id: str
    display_name: str
    description: str
    version: int
    definition: dict[str, Any]
    organization_id: str
    created_at: datetime
    updated_at: datetime
    modified_by: str


@dataclass(frozen=True, kw_only=True)
class Execution:
    """One run of a flow, pinned to a version. `run_number` is only there in lists that were asked for it."""

    id: str
    flow_id: str
    flow_version: int
    status: str
    input: dict[str, Any]
    organization_id: str
    created_at: datetime
    updated_at: datetime
    modified_by: str
    run_number: int | None = None


@dataclass(frozen=True, kw_only=True)
class TaskStatus:
    """A row of the status history."""

    id: str
    flow_execution_id: str
    task_name: str
    status: str
    created_at: datetime
    organization_id: str


@dataclass(frozen=True, kw_only=True)
class TaskTag:
    """A tag of a task. Once its status is `deleted`, `updated_at` and `modified_by` tell of its removal."""

    id: str
    flow_execution_id: str
    task_name: str
    tag: str
    tag_type: str
    tag_metadata: Any
    status: str
    created_at: datetime
    updated_at: datetime
    modified_by: str
    organization_id: str
    created_by: str | None = None


@dataclass(frozen=True, kw_only=True)
class TaskExecution:
    """One attempt of a task, with the live tags of the task."""

    id: str
    flow_execution_id: str
    task_execution_idx: int
    task_name: str
    created_at: datetime
    updated_at: datetime
    modified_by: str
    processing_status: str
    edited_status: str
    stale_status: str
    input: Any
    output: Any
    error: Any
    organization_id: str
    started_at: datetime | None
    completed_at: datetime | None
    tags: tuple[TaskTag, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TaskOutput:
    """What came of a task: its derived state. `processing_status` is `None` while nothing was reported."""

    id: str
    flow_execution_id: str
    task_name: str
    summary: Any
    output: Any
    processing_status: str | None
    edited_status: str
    stale_status: str
    error: Any
    created_at: datetime
    updated_at: datetime
    modified_by: str
    flow_version: int
    organization_id: str
    tags: tuple[TaskTag, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happened in a flow. `data` holds the same objects as the answers of the API, as JSON.

    `epoch` and `offset` say where to go on after it.
    """

    epoch: str
    offset: int
    type: str
    flow_execution_id: str | None
    created_at: datetime
    data: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Reset:
    """What happened before `offset` is not told: fetch what you keep, then apply the events that follow."""

    epoch: str
    offset: int


@dataclass(frozen=True, kw_only=True)
class EventPage:
    """A part of a flow's events. `offset` is the flow's highest; `reset` says that the past asked for is gone."""

    epoch: str
    offset: int
    reset: bool
    events: tuple[Event, ...]


def parsed(model: Callable[..., M], data: Mapping[str, Any]) -> M:
    """Return a model made from a JSON object; raise `KeyError`, `TypeError` or `ValueError` if it is none."""
    return model(**{name: read(data[name]) for name, required, read in _readers(model) if required or name in data})


def moment(text: str) -> datetime:
    """Return a time of the API, which is in UTC."""
    return datetime.fromisoformat(text.replace("Z", "+00:00"))  # Python 3.10 does not know the Z


@cache
def _readers(model: Any) -> list[tuple[str, bool, Callable[[Any], Any]]]:
    """Return for each field of a model its name, whether an answer must have it, and how its value is read."""
    hints = get_type_hints(model)
    return [(field.name, field.default is MISSING, _reader(hints[field.name])) for field in fields(model)]


def _reader(hint: Any) -> Callable[[Any], Any]:
    if hint == datetime:
        return moment
    if hint == datetime | None:
        return lambda text: None if text is None else moment(text)
    if hint == tuple[TaskTag, ...]:
        return lambda rows: tuple(parsed(TaskTag, row) for row in rows)
    return lambda value: value
