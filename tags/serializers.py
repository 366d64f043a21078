"""Answers about task tags."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, RootModel

from flowplatform.openapi.examples import IDS
from flowplatform.schemas import Author
from tags.models import TagStatus, TaskTag

Outcome = Literal["added", "removed", "already_exists", "not_found"]


class TagOutcome(BaseModel):
    """What an operation did."""

    status: Outcome


class TagBatchAnswer(BaseModel):
    """What the operations did, in request order."""

    tags: list[TagOutcome]


class TaskTagAnswer(BaseModel):
    """A tag; `modified_by` and `updated_at` tell of its removal once it is removed."""

    model_config = ConfigDict(from_attributes=True)

    id: UUID = Field(examples=[IDS["task_tag_id"]])
    flow_execution_id: UUID
    task_name: str = Field(examples=["extract"])
    tag: str = Field(examples=["approved"])
    tag_type: str = Field(examples=["review"])
    tag_metadata: Any = Field(examples=[{"note": "clean scan"}])
    status: TagStatus
    created_at: datetime
    created_by: Author
    updated_at: datetime
    modified_by: Author
    organization_id: UUID


class TaskTagsAnswer(RootModel[list[TaskTagAnswer]]):
    """Tags, oldest first."""


def tag_answer(tag: TaskTag) -> dict[str, Any]:
    """Return a tag as the contract shows it."""
    return TaskTagAnswer.model_validate(tag).model_dump()
