"""What the tests of the reporter share: an execution to report, a way to the platform that can fail, and scripts."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flowplatform_client.reporter import Reporter

from executions.models import FlowExecution, TaskExecution, TaskOutput, TaskStatus
from flowplatform.accounts.models import Organization
from tests.builders import make_execution, make_flow, make_organization, make_token
from tests.faults.proxy import Mode, Proxy
from tests.stack import ROOT, free_port

Told = list[tuple[str, str]]

PATIENCE_SECONDS = 90.0  # with programs that would take a second if nothing else ran


class Run:
    """An execution of a flow with some tasks, in an organization of its own, and what the platform has of it."""

    def __init__(self, *tasks: str, organization: Organization | None = None) -> None:
        self.organization = organization or make_organization()
        self.execution: FlowExecution = make_execution(
            make_flow(self.organization, *(tasks or ("extract", "classify")))
        )
        self.id = str(self.execution.pk)
        self.token = make_token(self.organization)

    def history(self, task: str | None = None) -> Told:
        """Return what was reported, in the order of the history."""
        rows = TaskStatus.objects.filter(flow_execution=self.execution).order_by("position")
        found = rows if task is None else rows.filter(task_name=task)
        return list(found.values_list("task_name", "status"))

    def states(self) -> dict[str, str | None]:
        """Return the derived state of each task."""
        outputs = TaskOutput.objects.filter(flow_execution=self.execution)
        return dict(outputs.values_list("task_name", "processing_status"))

    def attempts(self, task: str) -> list[TaskExecution]:
        """Return the attempts of a task, in order."""
        return [
            *TaskExecution.objects.filter(flow_execution=self.execution, task_name=task).order_by("task_execution_idx")
        ]


class Way:
    """An address that leads to the platform, as long as nothing happens to it."""

    def __init__(self, proxy: Proxy, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._proxy = proxy

    def turn(self, mode: Mode) -> None:
        """Have it behave differently."""
        self._proxy.turn("platform", mode)


@contextmanager
def way_to(platform_port: int) -> Iterator[Way]:
    """Have a way to the platform for the duration of a with statement."""
    port = free_port()
    proxy = Proxy({"platform": (port, platform_port)})
    try:
        yield Way(proxy, port)
    finally:
        proxy.stop()


def some(count: int, begin: int = 0) -> Told:
    """Return statuses of two tasks in turn, no two of them alike."""
    return [(("extract", "classify")[number % 2], f"step {number}") for number in range(begin, begin + count)]


def tell(reporter: Reporter, told: Told) -> None:
    """Report statuses."""
    for task, status in told:
        reporter.status(task, status)


def leave(run: Run, url: str, spool: Path, count: int, begin: int = 0) -> None:
    """Have a process report `some` statuses, and kill it with the last one."""
    source = """
        for number in range(int(sys.argv[1]), int(sys.argv[2])):
            reporter.status(("extract", "classify")[number % 2], f"step {number}")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    process = script(run, url, spool, source, str(begin), str(begin + count))
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == -signal.SIGKILL, said


def script(run: Run, url: str, spool: Path, source: str, *arguments: str) -> "subprocess.Popen[str]":
    """Start a program that has a reporter of the run, `platform`, and its arguments in `sys.argv[1:]`.

    It waits at its end as long as a slow machine may need for what it has told.
    """
    begin = """
        import os, signal, sys, time
        from flowplatform_client import FlowPlatform
        from flowplatform_client.reporter import Reporter, reporter as module
        module.CLOSE_SECONDS = 60
        platform = FlowPlatform.from_environment()
        reporter = Reporter(platform, os.environ["EXECUTION"])
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "client" / "src"),
        "FLOWPLATFORM_URL": url,
        "FLOWPLATFORM_TOKEN": run.token,
        "FLOWPLATFORM_SPOOL": str(spool),
        "EXECUTION": run.id,
    }
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(begin) + textwrap.dedent(source), *arguments],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
