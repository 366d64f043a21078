"""Request schemas of task tags."""

from typing import Annotated, Any
from uuid import UUID

import orjson
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from flowplatform.schemas import Body, Identifier, Query, QueryText

MAX_METADATA_BYTES = 4096
MAX_OPERATIONS = 100


def _small(metadata: Any) -> Any:
    if len(orjson.dumps(metadata)) > MAX_METADATA_BYTES:
        raise PydanticCustomError("too_long", "tag_metadata may have at most 4 KiB as JSON")
    return metadata


class TagOperation(Body):
    """Add or remove one tag of a task."""

    # Any text here: another operation is 400 for the whole batch, with the indexes, as the contract says.
    operation: str = Field(max_length=20, json_schema_extra={"enum": ["add", "remove"]}, description="What to do.")
    flow_execution_id: Identifier
    task_name: str = Field(min_length=1, max_length=200, examples=["extract"])
    tag: str = Field(min_length=1, max_length=200, examples=["approved"])
    tag_type: str = Field(min_length=1, max_length=100, examples=["review"])
    tag_metadata: Annotated[Any, AfterValidator(_small)] = Field(
        None, description="At most 4 KiB as JSON. Other metadata makes another tag.", examples=[{"note": "clean scan"}]
    )


class ExpectedTags(Body):
    """The live tags of one type that a task had when somebody looked at it."""

    flow_execution_id: Identifier
    task_name: str = Field(min_length=1, max_length=200, examples=["extract"])
    tag_type: str = Field(min_length=1, max_length=100, examples=["review"])
    tag_ids: list[Identifier] = Field(
        max_length=1000, description="Their ids, in any order; none where no tag of this type was there.", examples=[[]]
    )


class TagBatch(Body):
    """1 to 100 operations, applied in order, all or none."""

    tags: list[TagOperation] = Field(min_length=1, max_length=MAX_OPERATIONS)
    expected: list[ExpectedTags] = Field(
        default=[],
        max_length=MAX_OPERATIONS,
        description="What the client saw. If other tags stand by now the whole batch is refused with 409: two people "
        "who decide about the same task cannot overwrite each other without knowing.",
    )


class TaskTagsQuery(Query):
    """The tags of an execution, or of one of its tasks."""

    flow_execution_id: UUID = Field(description="The execution whose tags are listed.")
    task_name: QueryText | None = Field(None, description="Only of this task.", examples=["extract"])
    include_deleted: bool = Field(False, description="Also the removed ones: the trail.")
