"""Live tags for those who show tasks."""

from collections import defaultdict
from collections.abc import Collection
from typing import Any
from uuid import UUID

from tags.models import TaskTag
from tags.serializers import tag_answer


def live_tags(execution_id: UUID, task_names: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the live tags of tasks of an execution, oldest first, by task name; one query."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for tag in TaskTag.objects.live().of_execution(execution_id).filter(task_name__in=set(task_names)):
        found[tag.task_name].append(tag_answer(tag))
    return dict(found)
