"""Running the tasks of one execution: branches at the same time, every status reported as it happens."""

import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence

from flowplatform_client import StatusUpdate

from flowplatform.demo.check import DocumentCheck, Outcome
from flowplatform.demo.documents import CheckError
from flowplatform.demo.tasks import Task

Reporter = Callable[[Sequence[StatusUpdate]], None]


class Run:
    """Plays a graph of tasks. Only the thread that calls `play` reports, so statuses keep their order.

    `pace_seconds` is waited before and after each task works, for a person who watches. The tasks work in daemon
    threads: a worker that is told to stop does not wait for them.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        check: DocumentCheck,
        *,
        report: Reporter,
        pace_seconds: float,
    ) -> None:
        self._waiting = list(tasks)
        self._check = check
        self._outcomes = check.outcomes
        self._report = report
        self._pace_seconds = pace_seconds
        self._working = 0
        self._ended: queue.Queue[tuple[Task, Outcome]] = queue.Queue()

    def play(self) -> None:
        """Work until every task has an outcome."""
        news: list[StatusUpdate] = []
        while True:
            news += self._skip_the_unreachable()
            ready = self._take_ready()
            news += [StatusUpdate(task.name, "queued") for task in ready]
            if news:
                self._report(news)
            if ready:
                self._start(ready)
            if not self._working:
                return
            news = self._collect_ended()

    def _skip_the_unreachable(self) -> list[StatusUpdate]:
        """Give an outcome to every task that a failure keeps from running."""
        skipped = []
        for task in list(self._waiting):  # in graph order, so that one pass reaches the end of a chain
            culprit = next((name for name in task.depends_on if self._stopped(name)), None)
            if culprit and not task.even_after_failure:
                self._waiting.remove(task)
                self._outcomes[task.name] = Outcome("skipped", self._reason(culprit))
                skipped.append(StatusUpdate(task.name, "skipped"))
        return skipped

    def _stopped(self, name: str) -> bool:
        return name in self._outcomes and self._outcomes[name].status != "completed"

    def _reason(self, culprit: str) -> str:
        """Name the task that failed, also at the end of a chain of skipped ones."""
        outcome = self._outcomes[culprit]
        return outcome.note if outcome.status == "skipped" else f"{culprit} failed"

    def _take_ready(self) -> list[Task]:
        ready = [task for task in self._waiting if all(name in self._outcomes for name in task.depends_on)]
        self._waiting = [task for task in self._waiting if task not in ready]
        return ready

    def _start(self, ready: Sequence[Task]) -> None:
        time.sleep(self._pace_seconds)
        self._report([StatusUpdate(task.name, "running") for task in ready])
        for task in ready:
            self._working += 1
            threading.Thread(target=self._work, args=(task,), name=task.name, daemon=True).start()

    def _work(self, task: Task) -> None:
        started = time.perf_counter()
        try:
            status, note = "completed", task.work(self._check)
        except (CheckError, OSError) as error:
            status, note = "failed", str(error)
        except Exception as error:  # a bug fails its own task: the others and the report go on
            traceback.print_exc()
            status, note = "failed", f"a bug in the worker: {type(error).__name__}: {error}"
        seconds = time.perf_counter() - started
        time.sleep(self._pace_seconds)
        self._ended.put((task, Outcome(status, note, seconds)))

    def _collect_ended(self) -> list[StatusUpdate]:
        """Wait for a task to end; take those that ended with it, so that they share a batch."""
        ended = [self._ended.get()]
        while not self._ended.empty():
            ended.append(self._ended.get())
        self._working -= len(ended)
        self._outcomes.update({task.name: outcome for task, outcome in ended})
        return [StatusUpdate(task.name, outcome.status) for task, outcome in ended]
