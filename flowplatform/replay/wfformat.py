"""Reading WfFormat 1.5, the trace format of the WfCommons project (https://github.com/wfcommons/WfFormat)."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, StringConstraints, ValidationError
from pydantic_core import PydanticCustomError

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


def _fit_for_json(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("string_nul", "contains a NUL character")
    return text


_Text = Annotated[str, AfterValidator(_fit_for_json)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=MAX_NAME_LENGTH), AfterValidator(_fit_for_json)]


class _SpecifiedTask(BaseModel):
    id: _Name
    name: _Text = ""
    parents: list[str] = []
    children: list[str] = []


class _Specification(BaseModel):
    tasks: Annotated[list[_SpecifiedTask], Field(min_length=1, max_length=MAX_TASKS)]


class _ExecutedTask(BaseModel):
    id: str
    runtime_seconds: Annotated[float, Field(ge=0, le=LONGEST_RUNTIME_SECONDS)] | None = Field(
        None, alias="runtimeInSeconds"
    )


class _Execution(BaseModel):
    tasks: list[_ExecutedTask]


class _Workflow(BaseModel):
    specification: _Specification
    execution: _Execution


class _WfFormat(BaseModel):
    schema_version: Annotated[Literal["1.5"], Field(alias="schemaVersion")]
    name: _Text = ""
    workflow: _Workflow


def read_trace(path: Path) -> Trace:
    """Return the trace in a WfFormat 1.5 file; raise `TraceError` for any other file and for a broken one.

    An edge counts whether a task names its parent or its child. A task without a recorded runtime lasts 0 s.
    """
    document = _parse(path)
    specified = document.workflow.specification.tasks
    _refuse_duplicates("specification", [task.id for task in specified])
    _refuse_duplicates("execution", [task.id for task in document.workflow.execution.tasks])
    runtimes = {task.id: task.runtime_seconds for task in document.workflow.execution.tasks}
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
        name=(document.name.strip() or path.stem)[:MAX_TITLE_LENGTH],
        tasks=tuple(tasks[task_id] for task_id in _in_order(parents)),
        notes=tuple(_notes(tasks, runtimes)),
    )


def _parse(path: Path) -> _WfFormat:
    try:
        if path.exists() and not path.is_file():  # reading a pipe or a device might never end
            raise TraceError(f"{path} is not a file.")
        return _WfFormat.model_validate_json(path.read_bytes())
    except OSError as error:
        raise TraceError(f"{path} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise TraceError(_sentence(path, error)) from error


def _sentence(path: Path, error: ValidationError) -> str:
    """Say the first thing that is wrong with a file."""
    problem = error.errors(include_url=False)[0]
    if problem["type"] == "json_invalid":
        return f"{path} is not JSON: {problem['ctx']['error']}."
    others = f" (and {error.error_count() - 1:,} more)" if error.error_count() > 1 else ""
    return f"{path} is not a WfFormat 1.5 trace: {_place(problem['loc'])}: {problem['msg']}{others}."


def _place(location: Sequence[str | int]) -> str:
    """Return a location as people write it: workflow.specification.tasks[3].id."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in location)
    return "".join(steps).removeprefix(".") or "the top level"


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
