"""Reading WfFormat 1.5, the trace format of the WfCommons project (https://github.com/wfcommons/WfFormat)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from flowplatform_client.replay.json_place import NotFittingError, Place, parsed_file

VERSION = "1.5"
MAX_TASKS = 10_000  # the contract's limits of a flow
MAX_NAME_LENGTH = 200
MAX_TITLE_LENGTH = 255
LONGEST_RUNTIME_SECONDS = 1e9


class TraceError(Exception):
    """The file cannot be replayed. The text is one sentence that names the place."""


@dataclass(frozen=True)
class TraceTask:
    """One task of a trace; `parents` are ids."""

    id: str
    title: str
    parents: tuple[str, ...]
    runtime_seconds: float


@dataclass(frozen=True)
class Trace:
    """A recorded execution. The tasks are in topological order; `notes` tell what had to be assumed."""

    name: str
    tasks: tuple[TraceTask, ...]
    notes: tuple[str, ...] = field(default=())


@dataclass(frozen=True)
class _SpecifiedTask:
    """A task as the specification names it."""

    id: str
    name: str
    parents: tuple[str, ...]
    children: tuple[str, ...]


def read_trace(path: Path) -> Trace:
    """Return the trace in a WfFormat 1.5 file; raise `TraceError` for any other file and for a broken one.

    An edge counts whether a task names its parent or its child. A task without a recorded runtime lasts 0 s.
    """
    try:
        return _trace(Place(parsed_file(path)), path.stem)
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise TraceError(f"{path} is not JSON: {error}.") from error
    except NotFittingError as error:
        raise TraceError(f"{path} is not a WfFormat 1.5 trace: {error}.") from error


def _trace(document: Place, stem: str) -> Trace:
    document.field("schemaVersion").must_be(VERSION)
    workflow = document.field("workflow")
    specified = [_specified(task) for task in workflow.field("specification").field("tasks").items(1, MAX_TASKS)]
    executed = [_executed(task) for task in workflow.field("execution").field("tasks").items()]
    _refuse_duplicates("specification", [task.id for task in specified])
    _refuse_duplicates("execution", [task_id for task_id, _ in executed])
    runtimes = dict(executed)
    parents = _parents(specified)
    tasks = {
        task.id: TraceTask(
            task.id,
            title=task.name[:MAX_TITLE_LENGTH] or task.id,
            parents=tuple(parents[task.id]),
            runtime_seconds=runtimes.get(task.id) or 0.0,
        )
        for task in specified
    }
    return Trace(
        name=(document.field("name", "").text().strip() or stem)[:MAX_TITLE_LENGTH],
        tasks=tuple(tasks[task_id] for task_id in _in_order(parents)),
        notes=tuple(_notes(tasks, runtimes)),
    )


def _specified(task: Place) -> _SpecifiedTask:
    return _SpecifiedTask(
        id=task.field("id").text(1, MAX_NAME_LENGTH),
        name=task.field("name", "").text(),
        parents=tuple(name.text() for name in task.field("parents", []).items()),
        children=tuple(name.text() for name in task.field("children", []).items()),
    )


def _executed(task: Place) -> tuple[str, float | None]:
    return task.field("id").text(), task.field("runtimeInSeconds", None).number_or_none(0, LONGEST_RUNTIME_SECONDS)


def _refuse_duplicates(part: str, ids: Iterable[str]) -> None:
    for task_id, count in Counter(ids).items():
        if count > 1:
            raise TraceError(f'workflow.{part}.tasks holds the id "{task_id}" {count} times; ids must be unique.')


def _parents(tasks: Sequence[_SpecifiedTask]) -> dict[str, list[str]]:
    """Return the parents of every task without repetition, in the order of the file."""
    parents: dict[str, dict[str, None]] = {task.id: {} for task in tasks}
    for index, task in enumerate(tasks):
        for relation, others in (("parents", task.parents), ("children", task.children)):
            for other in others:
                if other not in parents:
                    place = f"workflow.specification.tasks[{index}].{relation}"
                    raise TraceError(f'{place} of "{task.id}" names "{other}", which is no task of the trace.')
                below, above = (task.id, other) if relation == "parents" else (other, task.id)
                parents[below][above] = None
    return {task_id: list(above) for task_id, above in parents.items()}


def _in_order(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the ids so that parents come before their children."""
    try:
        return list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        cycle = " -> ".join(f'"{task_id}"' for task_id in error.args[1])
        raise TraceError(f"workflow.specification.tasks depend on each other in a circle: {cycle}.") from error


def _notes(tasks: Mapping[str, TraceTask], runtimes: Mapping[str, float | None]) -> Iterable[str]:
    without = [task_id for task_id in tasks if runtimes.get(task_id) is None]
    if without:
        yield f'tasks without a recorded runtime: {len(without):,}, such as "{without[0]}"; played as 0 s.'
    unknown = [task_id for task_id in runtimes if task_id not in tasks]
    if unknown:
        yield f'recorded runtimes without a specified task: {len(unknown):,}, such as "{unknown[0]}"; not played.'
