"""Answers of the event log."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from flowplatform.openapi.examples import IDS

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

    offset: int = Field(description="Consecutive in a flow, without gaps.", examples=[42])
    type: EventType = Field(examples=["task_status.added"])
    flow_execution_id: UUID | None
    created_at: datetime
    data: dict[str, Any] = Field(
        examples=[
            {
                "statuses": [
                    {
                        "id": IDS["task_status_id"],
                        "flow_execution_id": IDS["flow_execution_id"],
                        "task_name": "extract",
                        "status": "completed",
                        "created_at": "2026-11-22T08:15:30.123456Z",
                        "organization_id": IDS["organization_id"],
                    }
                ]
            }
        ]
    )


class EventsAnswer(BaseModel):
    """A part of a flow's event log. `offset` is the flow's highest; with `reset` the requested past is gone."""

    epoch: UUID
    offset: int = Field(description="The highest of the flow.", examples=[42])
    reset: bool = Field(description="Refetch over REST, then apply events after `offset`.")
    events: list[EventAnswer]
