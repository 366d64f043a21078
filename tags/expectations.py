"""What somebody saw before deciding: a tag batch that says so is refused if somebody else was faster.

Called with the executions locked, so that nothing changes between the look and the write.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from flowplatform.encoding import array_of
from flowplatform.errors import Conflict
from tags.models import TagStatus, TaskTag
from tags.schemas import ExpectedTags
from tags.serializers import tag_answer

Place = tuple[UUID, str, str]  # execution, task name, type

# The index of live tags leads to those of a task, the one of the trail to all tags of an execution. `OFFSET 0` keeps
# the planner from reading all tags of everybody first.
_LIVE = """
    SELECT tag.* FROM unnest(%(executions)s::uuid[], %(names)s::text[], %(types)s::text[])
        AS wanted (flow_execution_id, task_name, tag_type)
    CROSS JOIN LATERAL (
        SELECT * FROM tags_tasktag AS tag
        WHERE tag.organization_id =
              (SELECT organization_id FROM executions_flowexecution WHERE id = wanted.flow_execution_id)
          AND tag.flow_execution_id = wanted.flow_execution_id AND tag.task_name = wanted.task_name
          AND tag.tag_type = wanted.tag_type AND tag.status = 'active'
        OFFSET 0
    ) AS tag
    ORDER BY tag.created_at, tag.id
"""


def refuse_if_changed(expected: Sequence[ExpectedTags]) -> None:
    """Compare what stands with what was seen; raise 409 with every difference and who made the last change there."""
    if not expected:
        return
    standing = _standing(expected)
    changed = [one for one in expected if set(one.tag_ids) != {tag.pk for tag in standing[_place(one)]}]
    if changed:
        message = "Somebody changed these tags meanwhile; nothing was written."
        raise Conflict(message, details=[_difference(one, standing[_place(one)]) for one in changed])


def _place(one: ExpectedTags) -> Place:
    return one.flow_execution_id, one.task_name, one.tag_type


def _standing(expected: Sequence[ExpectedTags]) -> dict[Place, list[TaskTag]]:
    places = {_place(one) for one in expected}
    executions, names, types = zip(*places, strict=True)
    parameters = {
        "executions": array_of(map(str, executions)),
        "names": array_of(names),
        "types": array_of(types),
    }
    standing: dict[Place, list[TaskTag]] = defaultdict(list)
    for tag in TaskTag.objects.raw(_LIVE, parameters):
        standing[tag.flow_execution_id, tag.task_name, tag.tag_type].append(tag)
    return standing


def _difference(one: ExpectedTags, standing: Sequence[TaskTag]) -> dict[str, Any]:
    of_task = TaskTag.objects.filter(
        flow_execution_id=one.flow_execution_id, task_name=one.task_name, tag_type=one.tag_type
    )
    newest = of_task.order_by("-updated_at", "-id").first()
    return {
        "flow_execution_id": one.flow_execution_id,
        "task_name": one.task_name,
        "tag_type": one.tag_type,
        "tags": [tag_answer(tag) for tag in standing],
        "last_change": newest and {**tag_answer(newest), "removed": newest.status == TagStatus.DELETED},
    }
