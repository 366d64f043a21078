"""What a flow definition must fulfil beyond its schema: unique names, known dependencies, no cycle."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from functools import reduce
from graphlib import CycleError, TopologicalSorter
from itertools import islice
from operator import or_
from typing import Any
from uuid import UUID

from django.db.models import Q

from executions.models import FlowVersion
from executions.schemas import FlowDefinition
from flowplatform.errors import BadRequest

PROBLEMS_SHOWN = 100


def check_definition(definition: FlowDefinition) -> None:
    """Raise 400 `invalid_definition` that names every wrong place of a definition."""
    problems = list(islice(_problems(definition), PROBLEMS_SHOWN)) or list(_cycle(definition))
    if problems:
        raise BadRequest("The flow definition is invalid.", code="invalid_definition", details=problems)


def _problems(definition: FlowDefinition) -> Iterator[dict[str, Any]]:
    names = {task.name for task in definition.tasks}
    seen: set[str] = set()
    for index, task in enumerate(definition.tasks):
        if task.name in seen:
            yield _problem(index, "name", message=f"the name {task.name!r} is used twice")
        seen.add(task.name)
        named: set[str] = set()
        for place, dependency in enumerate(task.depends_on):
            if dependency not in names:
                yield _problem(index, "depends_on", place, message=f"there is no task {dependency!r}")
            elif dependency in named:
                yield _problem(index, "depends_on", place, message=f"{dependency!r} is named twice")
            named.add(dependency)


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


Version = tuple[UUID, int]  # of which flow, and its number

_names: dict[Version, frozenset[str]] = {}  # versions never change, so what was read stays true
_REMEMBERED = 128  # versions; a large one takes a megabyte


def task_names(versions: Collection[Version]) -> dict[Version, frozenset[str]]:
    """Return the task names that flow versions define; one query for those that are not remembered."""
    # One look-up each: another thread may forget everything between a test and a read.
    known = {version: names for version in versions if (names := _names.get(version)) is not None}
    unknown = [version for version in set(versions) if version not in known]
    if unknown:
        found = _read_task_names(unknown)
        if len(_names) + len(found) > _REMEMBERED:
            _names.clear()
        _names.update(found)
        known |= found
    return known


def refuse_unknown_tasks(named: Iterable[tuple[str, frozenset[str]]]) -> None:
    """Raise 400 with the index and name of every task that its flow version does not define.

    `named` are pairs in request order: the name of a task and the names that the version defines.
    """
    unknown = [{"index": index, "task_name": name} for index, (name, known) in enumerate(named) if name not in known]
    if unknown:
        raise BadRequest("The flow version does not define these tasks; nothing was written.", details=unknown)


def downstream(version: Version, task_name: str) -> set[str]:
    """Return the names of all tasks that depend on a task of a flow version, directly or through others."""
    definition = FlowVersion.objects.values_list("definition", flat=True).get(flow=version[0], number=version[1])
    dependents = defaultdict(list)
    for task in definition["tasks"]:
        for name in task["depends_on"]:
            dependents[name].append(task["name"])
    found: set[str] = set()
    pending = [task_name]
    while pending:
        new = set(dependents[pending.pop()]) - found
        found |= new
        pending.extend(new)
    return found


def _read_task_names(versions: Collection[Version]) -> dict[Version, frozenset[str]]:
    wanted = reduce(or_, (Q(flow_id=flow_id, number=number) for flow_id, number in versions))
    rows = FlowVersion.objects.filter(wanted).values_list("flow_id", "number", "definition")
    return {
        (flow_id, number): frozenset(task["name"] for task in definition["tasks"])
        for flow_id, number, definition in rows
    }
