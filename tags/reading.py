"""Live tags for those who show tasks."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any
from uuid import UUID

from tags.models import TaskTag
from tags.serializers import tag_answer

# One array, where `__in` would make a parameter of each name: there may be ten thousand.
_LIVE = """
    SELECT * FROM tags_tasktag
    WHERE organization_id = (SELECT organization_id FROM executions_flowexecution WHERE id = %(execution)s)
      AND flow_execution_id = %(execution)s AND task_name = ANY(%(names)s::text[]) AND status = 'active'
    ORDER BY created_at, id
"""


def live_tags(execution_id: UUID, task_names: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the live tags of tasks of an execution, oldest first, by task name; one query."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for tag in TaskTag.objects.raw(_LIVE, {"execution": execution_id, "names": list(set(task_names))}):
        found[tag.task_name].append(tag_answer(tag))
    return dict(found)
