"""What a flow definition must fulfil beyond its schema: unique names, known dependencies, no cycle."""

from collections.abc import Iterator
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from typing import Any
from uuid import UUID

from executions.models import FlowVersion
from executions.schemas import FlowDefinition
from flowplatform.errors import BadRequest


def check_definition(definition: FlowDefinition) -> None:
    """Raise 400 `invalid_definition` that names every wrong place of a definition."""
    problems = list(_problems(definition)) or list(_cycle(definition))
    if problems:
        raise BadRequest("The flow definition is invalid.", code="invalid_definition", details=problems)


def _problems(definition: FlowDefinition) -> Iterator[dict[str, Any]]:
    names = {task.name for task in definition.tasks}
    seen: set[str] = set()
    for index, task in enumerate(definition.tasks):
        if task.name in seen:
            yield _problem(index, "name", message=f"the name {task.name!r} is used twice")
        seen.add(task.name)
        for place, dependency in enumerate(task.depends_on):
            if dependency not in names:
                yield _problem(index, "depends_on", place, message=f"there is no task {dependency!r}")
            elif dependency in task.depends_on[:place]:
                yield _problem(index, "depends_on", place, message=f"{dependency!r} is named twice")


def _cycle(definition: FlowDefinition) -> Iterator[dict[str, Any]]:
    sorter = TopologicalSorter({task.name: task.depends_on for task in definition.tasks})
    try:
        sorter.prepare()
    except CycleError as error:
        circle: list[str] = error.args[1]
        index = next(index for index, task in enumerate(definition.tasks) if task.name == circle[0])
        yield _problem(index, "depends_on", message=f"the dependencies form a cycle: {' -> '.join(circle[:20])}")


def _problem(index: int, *path: str | int, message: str) -> dict[str, Any]:
    return {"loc": ["definition", "tasks", index, *path], "msg": message}


@lru_cache(maxsize=128)
def task_names(flow_id: UUID, number: int) -> frozenset[str]:
    """Return the task names of a flow version. Versions never change, so they are remembered."""
    definition = FlowVersion.objects.values_list("definition", flat=True).get(flow_id=flow_id, number=number)
    return frozenset(task["name"] for task in definition["tasks"])
