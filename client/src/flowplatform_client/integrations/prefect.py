"""Prefect 3: the runs of a flow show up, with one call and no change in its tasks.

    @flowplatform_client.integrations.prefect.report
    @flow
    def invoices(): …

The tasks are those that the flow's function names. What waits for what is learned from the first run: see
docs/integrations.md for what maps to what.
"""

import functools
import inspect
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timezone
from types import CodeType, FunctionType, ModuleType
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from prefect import Flow, Task, get_client
from prefect.client.schemas.objects import FlowRun, State, TaskRun

from flowplatform_client.client import FlowPlatform
from flowplatform_client.errors import ConfigurationError
from flowplatform_client.integrations.runs import PATIENCE_SECONDS, Definition, Runs
from flowplatform_client.reporter import Reporter, described

P = ParamSpec("P")
F = TypeVar("F", bound="Flow[..., Any]")

LABEL = "flowplatform.execution_id"
CLOSE_SECONDS = 5.0

_log = logging.getLogger("flowplatform_client.integrations")


def report(
    flow: F,
    *,
    tasks: "Iterable[Task[..., Any]] | None" = None,
    platform: FlowPlatform | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> F:
    """Have the runs of a flow reported, and return the flow.

    `tasks` are those of the flow, by default the ones that its function names, also through functions of the same
    module. `platform` is by default that of the environment; where FLOWPLATFORM_URL is not set nothing is reported.
    `patience_seconds` bounds how long a run waits for an answer of the platform when it begins.

    Raises nothing: reporting never breaks the work.
    """
    try:
        runs = Runs(platform or FlowPlatform.from_environment(), patience_seconds=patience_seconds)
        _Hooks(runs, flow, None if tasks is None else [*tasks]).hang()
    except ConfigurationError as error:
        _log.warning("the runs of %r are not reported: %s", flow.name, error)
    except Exception:
        _log.exception("the runs of %r are not reported", flow.name)
    return flow


def tasks_of(function: Callable[..., Any]) -> "Iterator[Task[..., Any]]":
    """Yield the tasks that a function names, in order, also through functions of its own module."""
    found: dict[str, Task[..., Any]] = {}
    seen: set[CodeType] = set()
    queue = [inspect.unwrap(function)]
    while queue:
        current = queue.pop(0)
        if not isinstance(current, FunctionType) or current.__code__ in seen:
            continue
        seen.add(current.__code__)
        for value in _named_by(current):
            if isinstance(value, Task):
                found.setdefault(value.name, value)
            elif isinstance(value, FunctionType) and value.__module__ == function.__module__:
                queue.append(inspect.unwrap(value))
    yield from found.values()


def _named_by(function: FunctionType) -> Iterator[Any]:
    """Yield what a function may mean by the names in its code: globals, what it closes over, and parts of modules."""
    closure = inspect.getclosurevars(function)
    scope = {**closure.globals, **closure.nonlocals}
    names = [*_names_in(function.__code__)]
    for name in names:
        value = scope.get(name, function.__globals__.get(name))
        yield value
        if isinstance(value, ModuleType):
            yield from (getattr(value, part, None) for part in names)


def _names_in(code: CodeType) -> Iterator[str]:
    """Yield the names in a function's code, and in that of the functions in it."""
    yield from (*code.co_names, *code.co_freevars)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


@dataclass
class _Attempt:
    """A task run, or one of its retries."""

    number: int
    error: Any = None


@dataclass
class _Told:
    """What a run of a flow has told of one of its tasks."""

    state: str | None = None
    attempts: int = 0
    open: dict[UUID, _Attempt] = field(default_factory=dict)  # by task run
    has_failed: bool = False


class _Run:
    """A run of a flow, in the process that it runs in.

    A task may run several times, also side by side: each of these runs is an attempt, and the task as a whole is
    running as long as one of them is, and has failed if one of them did.
    """

    def __init__(self, reporter: Reporter, definition: Definition) -> None:
        self._reporter = reporter
        self._definition = definition
        self._told = {task["name"]: _Told() for task in definition["tasks"]}
        self._names: dict[UUID, str] = {}  # of the tasks, by task run
        self._waits: defaultdict[str, set[str]] = defaultdict(set)
        self._lock = threading.RLock()

    def begin(self) -> None:
        """Report that the flow is running, perhaps once more."""
        with self._lock:
            for told in self._told.values():
                told.has_failed = False
            self._reporter.execution_status("running")

    def running(self, name: str, run: TaskRun) -> None:
        """Report that a task run begins, or is tried again."""
        with self._lock:
            told = self._told.get(name)
            if told is None:
                return
            self._names[run.id] = name
            self._waits[name] |= {self._names[one] for one in _inputs(run) if one in self._names} - {name}
            if run.id in told.open:
                self._close(name, told, run.id, "retried")
            attempt = told.open[run.id] = _Attempt(told.attempts)
            told.attempts += 1
            given = {"task_run_id": str(run.id), "task_run": run.name}
            self._say(name, run.id, attempt, "running", started_at=_now(), input=given)
            self._tell(name, told, "running")

    def failing(self, name: str, run: TaskRun, error: Any) -> None:
        """Keep why a task run is going to be tried again."""
        with self._lock:
            if name in self._told and run.id in self._told[name].open:
                self._told[name].open[run.id].error = error

    def ended(self, name: str, run: TaskRun, status: str, error: Any = None) -> None:
        """Report how a task run has ended."""
        with self._lock:
            told = self._told.get(name)
            if told is None:
                return
            if run.id not in told.open:  # its result was found in a cache
                self.running(name, run)
            told.open[run.id].error = error
            told.has_failed |= status == "failed"
            self._close(name, told, run.id, status)
            if not told.open:
                self._tell(name, told, "failed" if told.has_failed else status)

    def end(self, status: str) -> None:
        """Report how the flow has ended, and what of it never ran."""
        with self._lock:
            for name, told in self._told.items():
                for run_id in [*told.open]:
                    self._close(name, told, run_id, "cancelled")
                    self._tell(name, told, "cancelled")
                if told.state is None:
                    self._tell(name, told, "skipped")
            self._reporter.execution_status(status)
            self._reporter.close(CLOSE_SECONDS)

    @property
    def learned(self) -> Definition:
        """The definition, with what was seen to wait for what."""
        tasks = [
            {**task, "depends_on": sorted({*(task.get("depends_on") or ()), *self._waits[task["name"]]})}
            for task in self._definition["tasks"]
        ]
        return {"tasks": tasks} if _is_free_of_circles(tasks) else self._definition

    def _close(self, name: str, told: _Told, run_id: UUID, status: str) -> None:
        attempt = told.open.pop(run_id)
        error = {} if attempt.error is None else {"error": attempt.error}
        self._say(name, run_id, attempt, status, completed_at=_now(), **error)

    def _tell(self, name: str, told: _Told, state: str) -> None:
        if told.state != state:
            told.state = state
            self._reporter.status(name, state)

    def _say(self, name: str, run_id: UUID, attempt: _Attempt, status: str, **says: Any) -> None:
        self._reporter.attempt(
            f"{run_id} {attempt.number}", name, number=attempt.number, processing_status=status, **says
        )


_running: dict[UUID, _Run] = {}  # by flow run


def _harmless(hook: Callable[P, None]) -> Callable[P, None]:
    """Have what goes wrong in here logged, and nothing else."""

    @functools.wraps(hook)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            hook(*args, **kwargs)
        except Exception:
            _log.exception("a run could not be reported")

    return guarded


class _Hooks:
    """What Prefect calls when a flow and its tasks come into another state."""

    def __init__(self, runs: Runs, flow: "Flow[..., Any]", tasks: "list[Task[..., Any]] | None") -> None:
        self._runs = runs
        self._flow = flow
        self._tasks = tasks

    def hang(self) -> None:
        """Have the hooks of the flow called."""
        flow = self._flow
        flow.on_running_hooks.append(self._named("running"))
        flow.on_completion_hooks.append(self._named("completed"))
        flow.on_failure_hooks.append(self._named("failed"))
        flow.on_crashed_hooks.append(self._named("failed"))
        flow.on_cancellation_hooks.append(self._named("cancelled"))

    def _names(self) -> list[str]:
        """Return the names of the tasks, whose hooks are called from now on.

        When the flow is decorated, what its function names may not be defined yet.
        """
        if self._tasks is None:
            self._tasks = [*tasks_of(self._flow.fn)]
        for task in self._tasks:
            if _task_running not in task.on_running_hooks:
                task.on_running_hooks.append(_task_running)
                task.on_completion_hooks.append(_task_ended)
                task.on_failure_hooks.append(_task_ended)
                if not inspect.iscoroutinefunction(task.retry_condition_fn):
                    task.retry_condition_fn = _before_retry(task.retry_condition_fn)
        return [*dict.fromkeys(task.name for task in self._tasks)]

    def _named(self, status: str) -> Any:
        @_harmless
        def flowplatform(flow: "Flow[..., Any]", run: FlowRun, state: "State[Any]") -> None:
            if status == "running":
                self._begin(flow, run)
            else:
                self._end(flow, run, status)

        return flowplatform

    def _begin(self, flow: "Flow[..., Any]", run: FlowRun) -> None:
        if run.id not in _running:
            names = self._names()
            if not names:
                _log.warning("the runs of %r are not reported: its function names no task", flow.name)
                return
            definition = {"tasks": [{"name": name, "depends_on": []} for name in names]}
            given = {"flow_run_id": str(run.id), "flow_run": run.name}
            begun = self._runs.begin(flow.name, definition, given, will_do=functools.partial(_is_of_tasks, names))
            if begun is None:
                return
            platform = self._runs.platform
            _running[run.id] = _Run(Reporter(platform, begun.execution.id), begun.flow.definition)
            _running[run.id].begin()
            # Those who cancel a run or see it crash are other processes than the one that it runs in.
            get_client(sync_client=True).update_flow_run_labels(run.id, {LABEL: begun.execution.id})
        else:
            _running[run.id].begin()

    def _end(self, flow: "Flow[..., Any]", run: FlowRun, status: str) -> None:
        if found := _running.pop(run.id, None):
            found.end(status)
            self._runs.define(flow.name, found.learned)
        elif execution_id := run.labels.get(LABEL):
            with Reporter(self._runs.platform, str(execution_id)) as reporter:
                reporter.execution_status(status)


@_harmless
def _task_running(task: "Task[..., Any]", run: TaskRun, state: "State[Any]") -> None:
    if run.flow_run_id in _running:
        _running[run.flow_run_id].running(task.name, run)


@_harmless
def _task_ended(task: "Task[..., Any]", run: TaskRun, state: "State[Any]") -> None:
    if run.flow_run_id in _running:
        failed = state.is_failed()
        error = _error_of(state) if failed else None
        _running[run.flow_run_id].ended(task.name, run, "failed" if failed else "completed", error)


def _before_retry(condition: Callable[..., Any] | None) -> Callable[..., Any]:
    """Return a condition of retries that takes note of the error, which no hook is told of."""

    def flowplatform(task: "Task[..., Any]", run: TaskRun, state: "State[Any]") -> Any:
        if run.flow_run_id in _running:
            _harmless(_running[run.flow_run_id].failing)(task.name, run, _error_of(state))
        return True if condition is None else condition(task, run, state)

    return flowplatform


def _error_of(state: "State[Any]") -> Any:
    """Return the error of a state as JSON: the exception where it is at hand."""
    error = getattr(state.data, "result", state.data)
    return described(error) if isinstance(error, BaseException) else {"message": state.message or ""}


def _inputs(run: TaskRun) -> Iterator[UUID]:
    """Yield the task runs that a task run got something from, or waited for."""
    for name, inputs in run.task_inputs.items():
        if name != "__parents__":
            yield from (each.id for each in inputs if each.input_type == "task_run")


def _is_of_tasks(names: list[str], definition: Definition) -> bool:
    """Say whether a definition has these tasks, whatever waits for what."""
    return {task["name"] for task in definition["tasks"]} == set(names)


def _is_free_of_circles(tasks: list[dict[str, Any]]) -> bool:
    left = {task["name"]: set(task["depends_on"]) for task in tasks}
    while free := [name for name, after in left.items() if not after & left.keys()]:
        for name in free:
            del left[name]
    return not left


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
