"""Where tags come from: the app above says so at start, because executions know nothing of tags."""

from collections.abc import Callable, Collection
from typing import Any
from uuid import UUID

# From an execution and task names to the live tags of each task, ready to be encoded, in one query.
TagSource = Callable[[UUID, Collection[str]], dict[str, list[dict[str, Any]]]]

_source: TagSource = lambda execution_id, task_names: {}  # noqa: E731  (no tags without the app)


def show_tags_of(source: TagSource) -> None:
    """Let task executions and outputs show the tags that `source` knows."""
    global _source
    _source = source


def tags_of(execution_id: UUID, task_names: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Return the live tags of tasks by name; a task without tags is left out."""
    return _source(execution_id, task_names) if task_names else {}
