"""Where the reporter is measured: one web process, an execution of 100 tasks, and processes that report it."""

import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from benchmarks import stage
from benchmarks.measuring import Clients, clients
from benchmarks.servers import SERVERS
from benchmarks.workload import FLOWS, Work
from executions.models import TaskStatus

_SERVER = "web-1"
_PATH = "/api/flow-executions/{execution}/task-status"


class ReporterStage:
    """A stage with a server that can be killed."""

    free_port = staticmethod(stage.free_port)

    def __init__(self, stage: stage.Stage, home: Path) -> None:
        self._stage = stage
        self._home = home
        self._seed = 0
        self._stage.start_background()
        self._port = self._stage.launch(SERVERS[_SERVER])
        self._stage.fill(FLOWS)
        self._stage.wait(self._port)
        self._execution = self._stage.executions[0]

    def reporters(self, jobs: Sequence[Mapping[str, Any]]) -> AbstractContextManager[Clients]:
        """Have processes with a reporter each, ready to begin."""
        where = {
            "url": f"http://127.0.0.1:{self._port}",
            "token": self._stage.token,
            "execution": self._execution.id,
            "spool": str(self._home / "spool"),
        }
        return clients("benchmarks.reporter_load", [{"warm_up": 0, "seconds": 0, **where, **job} for job in jobs])

    def generator(self, times: Mapping[str, float], *, keyed: bool) -> AbstractContextManager[Clients]:
        """Have the load generator, ready to send what a reporter would, over one connection."""
        self._seed += 1
        work = vars(Work("status", 100, [self._execution], self._seed, _PATH, keyed=keyed))
        job = {**times, "work": work, "port": self._port, "token": self._stage.token, "connections": 1}
        return clients("benchmarks.generator", [job])

    def kill(self) -> None:
        """Kill the web process."""
        [pid] = self._stage.roots[_SERVER]
        os.killpg(pid, signal.SIGKILL)

    def restart(self) -> None:
        """Start it again on the same port; return when it answers."""
        self._stage.launch(SERVERS[_SERVER], self._port)
        self._stage.wait(self._port)

    def drain(self) -> None:
        """Wait until every event has its number."""
        self._stage.drain()

    def statuses(self) -> int:
        """Return how many statuses there are in all."""
        return self._stage.counts()["status"]

    def history(self) -> list[tuple[str, str]]:
        """Return task and status of all that was reported of the execution, in order."""
        rows = TaskStatus.objects.filter(flow_execution=UUID(self._execution.id)).order_by("position")
        return list(rows.values_list("task_name", "status"))


@contextmanager
def staged(home: Path) -> Iterator[ReporterStage]:
    """Have a stage for the duration of a with statement."""
    with stage.stage() as made:
        yield ReporterStage(made, home)
