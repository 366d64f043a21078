"""The proof at a small size: a server that is killed in the middle of what four processes report, and comes back.

`python -m benchmarks.reporter --only outage` is the whole form: 20,000 statuses, a web process that is away for 30 s.
"""

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from benchmarks.measuring import Clients, clients
from benchmarks.reporter import SMOKE
from benchmarks.reporter_outage import outage
from benchmarks.workload import TASKS
from tests.client.reporting import Run
from tests.servers import DATA_DIR
from tests.stack import Stack


class Mortal:
    """A server of our own on the database of the tests."""

    def __init__(self, run: Run, folder: Path) -> None:
        self._run = run
        self._folder = folder
        self._server = Stack(DATA_DIR, logs=folder)
        self.restart()

    def reporters(self, jobs: Sequence[Mapping[str, Any]]) -> AbstractContextManager[Clients]:
        where = {
            "url": self._server.url,
            "token": self._run.token,
            "execution": self._run.id,
            "spool": str(self._folder / "spool"),
        }
        return clients("benchmarks.reporter_load", [{"warm_up": 0, "seconds": 0, **where, **job} for job in jobs])

    def kill(self) -> None:
        self._server.stop("live", with_signal=signal.SIGKILL)

    def restart(self) -> None:
        self._server.start("live")

    def history(self) -> list[tuple[str, str]]:
        return self._run.history()


@pytest.fixture
def mortal(committed: None, tmp_path: Path) -> Iterator[Mortal]:
    made = Mortal(Run(*(f"task-{number}" for number in range(TASKS))), tmp_path)
    yield made
    made.kill()


def test_a_server_that_is_killed_meanwhile_costs_no_status_and_repeats_none(
    mortal: Mortal, capsys: pytest.CaptureFixture[str]
) -> None:
    assert outage(mortal, SMOKE) == 0
    assert "| 2000 | 0 | 0 | 0 |" in capsys.readouterr().out
