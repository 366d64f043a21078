"""Airflow 3: a plugin whose listener reports the runs of DAGs and their tasks.

It is switched on by being installed where Airflow is, with FLOWPLATFORM_URL and FLOWPLATFORM_TOKEN in the environment
of the scheduler, the workers and the API server. See docs/integrations.md for what maps to what.

The scheduler tells when a run begins and how all of its tasks have ended, the process of a task tells of its attempt.
They know the execution of a run by the same key. Nothing in here keeps a scheduler waiting: it has a thread for that.
"""

import hashlib
import logging
import os
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from queue import SimpleQueue
from typing import Any

from airflow.plugins_manager import AirflowPlugin
from pluggy import HookimplMarker

from flowplatform_client import endpoints
from flowplatform_client.address import URL_VARIABLE
from flowplatform_client.client import FlowPlatform
from flowplatform_client.endpoints import UNSET
from flowplatform_client.errors import ApiError, ConfigurationError, FlowPlatformError
from flowplatform_client.integrations.followup import outputs_of
from flowplatform_client.integrations.runs import Definition, Runs
from flowplatform_client.reporter import Reporter, described

hookimpl = HookimplMarker("airflow")

CLOSE_SECONDS = 5.0
PAUSE_SECONDS = 15.0
MOST_TRIES = 40
MOST_JOBS = 10_000
MOST_MAPPED = 100_000  # instances of a task, so that each try of each has a number of its own
_STATUSES_AT_ONCE = 100  # the API's limit
_NAME_CHARACTERS = 200

_STATUSES = {"success": "completed", "failed": "failed", "upstream_failed": "skipped", "skipped": "skipped"}
_NEVER_RAN = ("None", "removed", "scheduled", "queued")
_WORST_FIRST = ("failed", "cancelled", "completed", "skipped")

_log = logging.getLogger("flowplatform_client.integrations")


@dataclass(frozen=True)
class _Run:
    """What identifies the run of a DAG, when it began, and the definition of the DAG where it is at hand."""

    dag_id: str
    run_id: str
    since: datetime | None
    definition: Definition | None

    @classmethod
    def of(cls, run: Any, dag: Any) -> "_Run":
        """Return that of a run as the scheduler and the processes of tasks know it."""
        return cls(run.dag_id, run.run_id, run.start_date, _definition_of(dag))

    def execution_id(self, runs: Runs) -> str | None:
        """Return the id of its execution: the one that is there, or a new one. Raises `FlowPlatformError`."""
        known_as = hashlib.sha256(f"{self.dag_id}\0{self.run_id}".encode()).hexdigest()
        begun = runs.queue(
            self.dag_id,
            self.definition,
            {"dag_id": self.dag_id, "run_id": self.run_id},
            key=f"airflow {known_as}",
            since=self.since,
        )
        return None if begun is None else begun.execution.id


class Listener:
    """What Airflow calls: in the scheduler and the API server for runs, in the process of a task for its attempts."""

    def __init__(self, platform: FlowPlatform) -> None:
        self._runs = Runs(platform)
        self._jobs = _Jobs()
        self._reporter: Reporter | None = None  # of the task that this process is there for

    # --- Runs ------------------------------------------------------------------------------------------------------

    @hookimpl
    def on_dag_run_running(self, dag_run: Any, msg: str) -> None:
        """Have a run shown as running."""
        with _harmless():
            self._jobs.put(partial(self._begin, _Run.of(dag_run, dag_run.dag)))

    @hookimpl
    def on_dag_run_success(self, dag_run: Any, msg: str) -> None:
        """Have the end of a run told, and how its tasks have ended."""
        with _harmless():
            self._jobs.put(partial(self._end, _Run.of(dag_run, dag_run.dag), "completed", _statuses_of(dag_run)))

    @hookimpl
    def on_dag_run_failed(self, dag_run: Any, msg: str) -> None:
        """Have the end of a run told, and how its tasks have ended."""
        with _harmless():
            self._jobs.put(partial(self._end, _Run.of(dag_run, dag_run.dag), "failed", _statuses_of(dag_run)))

    def _begin(self, run: _Run) -> None:
        if execution_id := run.execution_id(self._runs):
            self._runs.driver.send(endpoints.set_execution_status(execution_id, "running"))

    def _end(self, run: _Run, status: str, tasks: Mapping[str, str]) -> None:
        """Tell what no process of a task can: which tasks never ran, and what all instances of a task come to."""
        execution_id = run.execution_id(self._runs)
        if execution_id is None:
            return
        known = {output.task_name: output.processing_status for output in outputs_of(execution_id, self._runs.driver)}
        news = [(name, state) for name, state in tasks.items() if known.get(name) != state]
        for begin in range(0, len(news), _STATUSES_AT_ONCE):
            self._runs.driver.send(endpoints.add_statuses(execution_id, news[begin : begin + _STATUSES_AT_ONCE]))
        self._runs.driver.send(endpoints.set_execution_status(execution_id, status))

    # --- Tasks -----------------------------------------------------------------------------------------------------

    @hookimpl
    def on_task_instance_running(self, previous_state: Any, task_instance: Any) -> None:
        """Report that an attempt of a task begins."""
        with _harmless():
            self._tell(task_instance, "running", started_at=_now())

    @hookimpl
    def on_task_instance_success(self, previous_state: Any, task_instance: Any) -> None:
        """Report that an attempt of a task went well."""
        self._ended(task_instance, "completed")

    @hookimpl
    def on_task_instance_failed(self, previous_state: Any, task_instance: Any, error: Any) -> None:
        """Report that an attempt of a task failed, whether another one follows or not."""
        is_tried_again = _text(task_instance.state) == "up_for_retry"
        told = described(error) if isinstance(error, BaseException) else {"message": str(error or "")}
        self._ended(task_instance, "retried" if is_tried_again else "failed", error=told)

    @hookimpl
    def on_task_instance_skipped(self, previous_state: Any, task_instance: Any) -> None:
        """Report that a task found out that it is not needed."""
        self._ended(task_instance, "skipped")

    @hookimpl
    def before_stopping(self, component: Any) -> None:
        """Wait a moment for what is not told yet: processes of tasks end without any further notice."""
        with _harmless():
            self._jobs.close(CLOSE_SECONDS)
            if self._reporter is not None:
                self._reporter.close(CLOSE_SECONDS)

    def _ended(self, instance: Any, status: str, **says: Any) -> None:
        with _harmless():
            says |= {"completed_at": _now()}
            if _is_of_this_process(instance):
                says |= {"started_at": instance.start_date.isoformat()}  # where the platform was away by then
                self._tell(instance, status, **says)
            else:  # it was killed, or somebody has decided
                run = _Run(instance.dag_id, instance.run_id, instance.dag_run.start_date, None)
                attempt = partial(_attempt, instance.task_id, instance.try_number, instance.map_index)
                self._jobs.put(partial(self._tell_of_another, run, attempt(), status, says))

    def _tell(self, instance: Any, status: str, **says: Any) -> None:
        """Report an attempt from the process of its task."""
        if self._reporter is None:
            run = instance._ti_context_from_server.dag_run
            begun = self._runs.guarded(partial(_Run.of(run, instance.task.dag).execution_id, self._runs))
            if begun is None:
                return
            self._reporter = Reporter(self._runs.platform, begun)
        given = {"map_index": instance.map_index, "hostname": instance.hostname, "log_url": instance.log_url}
        name, number = _attempt(instance.task_id, instance.try_number, instance.map_index)
        self._reporter.attempt(str(number), name, number=number, processing_status=status, input=given, **says)

    def _tell_of_another(self, run: _Run, attempt: tuple[str, int], status: str, says: Mapping[str, Any]) -> None:
        """Report how an attempt has ended whose process cannot."""
        if execution_id := run.execution_id(self._runs):
            name, number = attempt
            told = endpoints.put_task_execution(execution_id, name, number, status, error=says.get("error", UNSET))
            self._runs.driver.send(told)


class _Jobs:
    """What a thread of this process does one after the other, and again where the platform was away."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = threading.Condition()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._left = 0
        self._is_away = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def put(self, job: Callable[[], None]) -> None:
        """Have something done."""
        with self._lock:
            if self._left >= MOST_JOBS:
                _log.error("there is too much to report: the run of a DAG is not shown as it is")
                return
            self._left += 1
            self._queue.put(job)
            if self._thread is None:
                thread = self._thread = threading.Thread(target=self._work, name="flowplatform-airflow", daemon=True)
                thread.start()

    def close(self, timeout: float) -> None:
        """Wait until all is done, at most `timeout` seconds, and less where the platform is away."""
        with self._lock:
            self._lock.wait_for(lambda: not self._left or self._is_away, timeout)

    def _work(self) -> None:
        while True:
            job = self._queue.get()
            for _ in range(MOST_TRIES):
                if self._do(job):
                    break
                self._wake.wait(PAUSE_SECONDS)
            with self._lock:
                self._left -= 1
                self._lock.notify_all()

    def _do(self, job: Callable[[], None]) -> bool:
        """Do it; say whether it is done for good, also if it can never be done."""
        try:
            job()
        except ApiError as error:
            _log.warning("the run of a DAG is not shown as it is: %s", error)
            self._is_away = error.status >= 500 or error.is_about_credentials
        except FlowPlatformError as error:
            _log.warning("the run of a DAG is shown later: %s", error)
            self._is_away = True
        except Exception:
            _log.exception("the run of a DAG could not be reported")
            self._is_away = False
        else:
            self._is_away = False
        return not self._is_away

    def _forget(self) -> None:
        """Have nothing to do: what a parent has to do is the parent's."""
        self._queue, self._lock, self._wake = SimpleQueue(), threading.Condition(), threading.Event()
        self._thread, self._left, self._is_away = None, 0, False


class FlowPlatformPlugin(AirflowPlugin):  # type: ignore[misc]
    """The plugin, which Airflow finds by its entry point."""

    name = "flowplatform"
    listeners: list[Any] = []


def _listeners() -> Iterator[Listener]:
    """Yield the listener, if the environment says where to report."""
    if os.environ.get(URL_VARIABLE):
        try:
            yield Listener(FlowPlatform.from_environment())
        except ConfigurationError as error:
            _log.warning("the runs of DAGs are not reported: %s", error)


FlowPlatformPlugin.listeners = [*_listeners()]


@contextmanager
def _harmless() -> Iterator[None]:
    """Have what goes wrong in here logged, and nothing else."""
    try:
        yield
    except Exception:
        _log.exception("something of a DAG could not be reported")


def _definition_of(dag: Any) -> Definition:
    """Return the tasks of a DAG, those first that others wait for. All processes come to the same."""
    left = {task.task_id: set(task.upstream_task_ids) for task in dag.tasks}
    tasks = []
    while free := sorted(name for name, after in left.items() if not after & left.keys()):
        for name in free:
            tasks.append({"name": _name(name), "depends_on": sorted(map(_name, left[name]))})
        left = {name: after for name, after in left.items() if name not in free}
    return {"tasks": tasks}


def _statuses_of(dag_run: Any) -> dict[str, str]:
    """Return how the tasks of a run have ended. Of several instances of a task the worst one counts."""
    from sqlalchemy.orm import object_session  # type: ignore[import-not-found]  # only the processes that have a database have it

    states: defaultdict[str, set[str]] = defaultdict(set)
    for instance in dag_run.get_task_instances(session=object_session(dag_run)):
        states[_name(instance.task_id)].add(_status_of(_text(instance.state)))
    return {name: next(each for each in _WORST_FIRST if each in found) for name, found in states.items()}


def _status_of(state: str) -> str:
    return _STATUSES.get(state, "skipped" if state in _NEVER_RAN else "cancelled")


def _attempt(task_id: str, try_number: int, map_index: int | None) -> tuple[str, int]:
    """Return the name of a task and the number of an attempt. The instances of a mapped task are attempts of it."""
    tries = max(0, try_number - 1)
    is_mapped = map_index is not None and map_index >= 0
    return _name(task_id), tries * MOST_MAPPED + (map_index or 0) if is_mapped else tries


def _is_of_this_process(instance: Any) -> bool:
    """Say whether this process is there for a task, and does not just know of it from the database."""
    return hasattr(instance, "_ti_context_from_server")


def _text(state: Any) -> str:
    """Return the text of a state, which is a member of one of several enumerations."""
    return str(getattr(state, "value", state))


def _name(task_id: str) -> str:
    return task_id[:_NAME_CHARACTERS]


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
