"""Looking after executions whose course no single process sees: when they began, whether all is done, what never runs.

It happens in a thread, a moment after the reports that it is about, and asks the platform what became of them. What one
process knows for certain (a task has failed, the last task of a chain has completed) is reported and does not depend on
this.
"""

import atexit
import logging
import os
import threading
import time
import weakref
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flowplatform_client import endpoints
from flowplatform_client.calls import Call
from flowplatform_client.errors import ApiError, FlowPlatformError
from flowplatform_client.http import SyncDriver
from flowplatform_client.models import Execution, TaskOutput
from flowplatform_client.pages import Page

SOON_SECONDS = 0.3
LONGEST_PAUSE_SECONDS = 30.0
MOST_CASES = 1_000
CLOSE_SECONDS = 5.0
_FLUSH_SECONDS = 1.0
_STATUSES_AT_ONCE = 100  # the API's limit

FINAL = frozenset({"completed", "failed", "cancelled"})
_OVER = FINAL | {"skipped"}

_log = logging.getLogger("flowplatform_client.integrations")


@dataclass
class _Case:
    """What is to be looked at. `tasks` is how many the execution has; `may_be_over` says whether all may have ended."""

    due: float
    tasks: int
    may_be_over: bool = False
    broken: set[str] = field(default_factory=set)
    failures: int = 0


class Followup:
    """Looks after executions. `flush` waits until the platform has what this process has told, for so many seconds."""

    def __init__(self, driver: SyncDriver, flush: Callable[[float], bool]) -> None:
        self._driver = driver
        self._flush = flush
        self._has_exit = False
        self._cases: dict[str, _Case] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closes_at: float | None = None
        _of_this_process.add(self)

    def began(self, execution_id: str, tasks: int) -> None:
        """A task is running: so is the execution, unless somebody has said otherwise."""
        self._note(execution_id, tasks)

    def may_be_over(self, execution_id: str, tasks: int) -> None:
        """A task that none waits for has ended: so may have all the others."""
        self._note(execution_id, tasks, may_be_over=True)

    def broke(self, execution_id: str, tasks: int, task: str) -> None:
        """A task has failed for good: those that wait for it never run."""
        self._note(execution_id, tasks, broken=task)

    def is_over(self, execution_id: str) -> None:
        """The end is reported: there is nothing to look after."""
        with self._changed:
            case = self._cases.get(execution_id)
            if case is not None and not case.broken:
                del self._cases[execution_id]

    def close(self, timeout: float) -> None:
        """Look at everything now, and wait for that at most `timeout` seconds."""
        with self._changed:
            self._closes_at = time.monotonic() + timeout
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    # --- The thread ------------------------------------------------------------------------------------------------

    def _note(self, execution_id: str, tasks: int, *, may_be_over: bool = False, broken: str | None = None) -> None:
        with self._changed:
            if execution_id not in self._cases and len(self._cases) >= MOST_CASES:
                _log.error(
                    "there is too much to look after: the status of execution %s may stay as it is", execution_id
                )
                return
            case = self._cases.setdefault(execution_id, _Case(time.monotonic() + SOON_SECONDS, tasks))
            case.may_be_over |= may_be_over
            if broken is not None:
                case.broken.add(broken)
            self._changed.notify_all()
            if self._thread is None:
                self._start()

    def _start(self) -> None:
        if not self._has_exit:
            atexit.register(self.close, CLOSE_SECONDS)
            self._has_exit = True
        thread = threading.Thread(target=self._work, name="flowplatform-followup", daemon=True)
        try:
            thread.start()
            self._thread = thread
        except RuntimeError:  # the interpreter is about to end
            _log.warning("the statuses of %d executions stay as they are", len(self._cases))

    def _work(self) -> None:
        while due := self._next():
            execution_id, case = due
            try:
                is_done = self._flush(_FLUSH_SECONDS) and self._look(execution_id, case)
            except ApiError as error:
                is_done = 400 <= error.status < 500 and error.status not in (408, 429)
                _log.log(logging.WARNING if is_done else logging.INFO, "execution %s: %s", execution_id, error)
            except FlowPlatformError:
                is_done = False
            except Exception:
                is_done = True
                _log.exception("execution %s could not be looked after", execution_id)
            if not is_done:
                self._put_off(execution_id, case)

    def _next(self) -> tuple[str, _Case] | None:
        """Wait until a case is due, and take it; `None` once there is none, and with it ends the thread."""
        with self._changed:
            while self._cases:
                execution_id = min(self._cases, key=lambda each: self._cases[each].due)
                left = self._cases[execution_id].due - time.monotonic()
                if left <= 0 or self._closes_at is not None:
                    return execution_id, self._cases.pop(execution_id)
                self._changed.wait(left)
            self._thread = None
            return None

    def _put_off(self, execution_id: str, case: _Case) -> None:
        """Look again later, at what was noted meanwhile as well."""
        case.failures += 1
        pause = min(LONGEST_PAUSE_SECONDS, SOON_SECONDS * 2 ** min(case.failures, 16))
        with self._changed:
            if self._closes_at is not None and time.monotonic() + pause > self._closes_at:
                return
            newer = self._cases.get(execution_id)
            if newer is not None:
                case.may_be_over, case.broken = newer.may_be_over or case.may_be_over, newer.broken | case.broken
            case.due = time.monotonic() + pause
            self._cases[execution_id] = case

    def _forget(self) -> None:
        """Have nothing to do: what a parent has noted is the parent's."""
        self._cases = {}
        self._changed = threading.Condition()
        self._thread = self._closes_at = None

    # --- What it does ----------------------------------------------------------------------------------------------

    def _look(self, execution_id: str, case: _Case) -> bool:
        execution = self._driver.send(endpoints.get_execution(execution_id))
        if case.broken:
            self._skip(execution, case.broken)
        if execution.status in FINAL:
            return True
        if (case.may_be_over or case.broken) and self._conclude(execution_id, case):
            return True
        if execution.status == "queued":
            self._driver.send(endpoints.set_execution_status(execution_id, "running"))
            self._conclude(execution_id, case)  # somebody may have done so meanwhile, and was overruled by this
        return True

    def _conclude(self, execution_id: str, case: _Case) -> bool:
        """Report how an execution has ended, if it has; say whether it has."""
        states = [output.processing_status for output in outputs_of(execution_id, self._driver)]
        if sum(state in _OVER for state in states) < case.tasks:
            return False
        status = next((state for state in ("failed", "cancelled") if state in states), "completed")
        self._driver.send(endpoints.set_execution_status(execution_id, status))
        return True

    def _skip(self, execution: Execution, broken: set[str]) -> None:
        """Report what never runs, because something that it waits for has failed."""
        flow = self._driver.send(endpoints.get_flow(execution.flow_id, version=execution.flow_version))
        reported = {output.task_name for output in outputs_of(execution.id, self._driver)}
        never = [name for name in _waiting_for(broken, flow.definition["tasks"]) if name not in reported]
        for begin in range(0, len(never), _STATUSES_AT_ONCE):
            updates = [(name, "skipped") for name in never[begin : begin + _STATUSES_AT_ONCE]]
            self._driver.send(endpoints.add_statuses(execution.id, updates))


def outputs_of(execution_id: str, driver: SyncDriver) -> Iterator[TaskOutput]:
    """Yield the state of every task that has reported. Raises `FlowPlatformError`."""
    call: Call[Page[TaskOutput]] | None = endpoints.list_task_outputs(execution_id)
    while call is not None:
        page: Page[TaskOutput] = driver.send(call)
        yield from page.rows
        call = page.next


def _waiting_for(broken: Iterable[str], tasks: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the tasks that wait for one of these, also through others."""
    waiting = defaultdict(list)
    for task in tasks:
        for name in task.get("depends_on") or ():
            waiting[name].append(task["name"])
    reached = dict.fromkeys(broken)
    queue = deque(reached)
    while queue:
        new = [name for name in waiting[queue.popleft()] if name not in reached]
        reached.update(dict.fromkeys(new))
        queue.extend(new)
    return [name for name in reached if name not in set(broken)]


_of_this_process: "weakref.WeakSet[Followup]" = weakref.WeakSet()


def _forget_the_parent() -> None:
    for followup in list(_of_this_process):
        followup._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parent)
