"""Answers of the event log."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

EventType = Literal[
    "flow_execution.created",
    "flow_execution.updated",
    "flow_execution.deleted",
    "task_status.added",
    "task_execution.updated",
    "task_output.updated",
    "task_tags.changed",
]


class EventAnswer(BaseModel):
    """One change of a flow. `data` holds the same objects as the REST API."""

    offset: int
    type: EventType
    flow_execution_id: UUID | None
    created_at: datetime
    data: dict[str, Any]


class EventsAnswer(BaseModel):
    """A part of a flow's event log. `offset` is the flow's highest; with `reset` the requested past is gone."""

    epoch: UUID
    offset: int
    reset: bool = Field(description="Refetch over REST, then apply events after `offset`.")
    events: list[EventAnswer]
