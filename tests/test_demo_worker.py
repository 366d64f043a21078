"""The demo worker as a process of its own against the real server: what a person sees, restarts, refusals."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from flowplatform_client import FlowPlatform, TaskStatus

from flowplatform.demo.tasks import TASKS
from tests.builders import make_organization, make_token
from tests.conftest import Platform
from tests.stack import ROOT, wait_until

SCOPES = ["read", "status:write", "executions:write"]


class Worker:
    """A demo worker that was started, and what it has printed."""

    def __init__(self, url: str, token: str, folder: Path, *arguments: str) -> None:
        self.reports = folder / "reports"
        self.log = folder / "worker.log"
        command = [sys.executable, "-m", "flowplatform.demo", "--url", url, "--reports", str(self.reports), *arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env={**os.environ, "FLOWPLATFORM_TOKEN": token}, stdout=log, stderr=log
            )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def ends_with(self, code: int, *, seconds: float = 10) -> bool:
        return self.process.wait(seconds) == code

    def stop(self, with_signal: int = signal.SIGKILL) -> None:
        self.process.send_signal(with_signal)
        self.process.wait(10)


class Account:
    """An organization of its own with a token, and the folder of its worker."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.platform = platform
        self.token = make_token(make_organization(), SCOPES)
        self.client = FlowPlatform(platform.url, self.token)
        self.folder = folder
        self.documents = folder / "documents"
        for name, text in {"a.md": "# A\n\n[b](sub/b.md)", "sub/b.md": "# B\n\n[gone](gone.md)"}.items():
            (self.documents / name).parent.mkdir(parents=True, exist_ok=True)
            (self.documents / name).write_text(text)
        self._workers: list[Worker] = []

    def start_worker(self, *arguments: str) -> Worker:
        worker = Worker(self.platform.url, self.token, self.folder, "--input", str(self.documents), *arguments)
        self._workers.append(worker)
        return worker

    def stop_workers(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.stop()

    def get(self, path: str, **query: str) -> Any:
        headers = {"Authorization": f"Bearer {self.token}"}
        answer = httpx.get(f"{self.platform.url}/api/{path}", params=query, headers=headers)
        assert answer.status_code == HTTPStatus.OK, answer.text
        return answer.json()

    def flows(self) -> list[dict[str, Any]]:
        return list(self.get("flows"))

    def executions(self, status: str) -> list[str]:
        """Return the ids of the only flow's executions with this status, oldest first."""
        query = {"flow_id": self.flows()[0]["id"], "status": status, "sort_direction": "asc", "page_size": "100"}
        return [execution["id"] for execution in self.get("flow-executions", **query)] if self.flows() else []

    def wait_for(self, status: str, count: int = 1) -> list[str]:
        wait_until(
            lambda: self.flows() and len(self.executions(status)) >= count,
            seconds=30,
            what=f"an execution that is {status}",
        )
        return self.executions(status)

    def states(self, execution_id: str) -> dict[str, str | None]:
        """Return the state of every task that has one."""
        return {output.task_name: output.processing_status for output in self.client.task_outputs.list(execution_id)}

    def history(self, execution_id: str) -> list[TaskStatus]:
        """Return every status of the execution, oldest first."""
        return [*self.client.statuses.history(execution_id)][::-1]

    def queue(self, **execution_input: object) -> str:
        return self.client.executions.create(self.flows()[0]["id"], execution_input).id


@pytest.fixture
def account(platform: Platform, committed: None, tmp_path: Path) -> Iterator[Account]:
    made = Account(platform, tmp_path)
    yield made
    made.stop_workers()
    made.client.close()


def test_a_start_works_on_an_execution_of_its_own_and_writes_a_report(account: Account) -> None:
    worker = account.start_worker("--pace", "0")
    execution = account.wait_for("completed")[0]
    flow = account.flows()[0]
    assert (flow["display_name"], flow["version"]) == ("Document check", 1)
    assert account.states(execution) == {task.name: "completed" for task in TASKS}
    history = account.history(execution)
    for task in TASKS:
        own = [update.status for update in history if update.task_name == task.name]
        assert own == ["queued", "running", "completed"]
    report = (worker.reports / f"{execution}.md").read_text()
    assert "| sub/b.md | 3 | gone.md | no such file |" in report
    wait_until(lambda: str(worker.reports / f"{execution}.md") in worker.said, what="the report's path")


def test_executions_that_somebody_else_queued_are_worked_on_oldest_first(account: Account) -> None:
    worker = account.start_worker("--pace", "0")
    account.wait_for("completed")
    queued = [account.queue(folder="sub"), account.queue(folder="../.."), account.queue()]
    account.wait_for("completed", 3)
    assert account.executions("failed") == [queued[1]]
    assert [line.split()[3] for line in worker.said.splitlines() if " report: " in line][1:] == queued
    assert "input.folder '../..' leads out of the input folder" in worker.said
    states = account.states(queued[1])
    assert (states["collect"], states["validate"], states["report"]) == ("failed", "skipped", "completed")
    assert (worker.reports / f"{queued[1]}.md").read_text().startswith("# Document check: failed")


def test_a_second_start_uses_the_same_flow_and_a_changed_definition_becomes_a_version(account: Account) -> None:
    account.start_worker("--pace", "0")
    account.wait_for("completed")
    account.stop_workers()
    account.start_worker("--pace", "0")
    account.wait_for("completed", 2)
    account.stop_workers()
    assert [flow["version"] for flow in account.flows()] == [1]
    account.client.flows.ensure("Document check", {"tasks": [{"name": "something else"}]})
    account.start_worker("--pace", "0")
    account.wait_for("completed", 3)
    assert [flow["version"] for flow in account.flows()] == [3]


def test_the_pace_leaves_time_to_watch(account: Account) -> None:
    account.start_worker("--pace", "0.3")
    execution = account.wait_for("running")[0]
    wait_until(lambda: account.states(execution).get("read") == "running", what="read is running")
    assert account.states(execution) == {"collect": "completed", "read": "running"}


def test_an_execution_in_work_when_the_worker_was_killed_starts_again(account: Account) -> None:
    worker = account.start_worker("--pace", "0.2")
    execution = account.wait_for("running")[0]
    wait_until(lambda: "read" in account.states(execution), what="the second task")
    worker.stop(signal.SIGKILL)
    account.start_worker("--pace", "0")
    assert execution in account.wait_for("completed", 2)
    assert f"execution {execution} was interrupted and starts again" in worker.said
    assert set(account.states(execution).values()) == {"completed"}


@pytest.mark.parametrize("status", ["cancelled", None])
def test_an_execution_that_was_ended_meanwhile_is_left_alone(account: Account, status: str | None) -> None:
    worker = account.start_worker("--pace", "5")
    execution = account.wait_for("running")[0]
    worker.stop(signal.SIGKILL)
    if status:
        account.client.executions.set_status(execution, status)
    else:
        headers = {"Authorization": f"Bearer {account.token}"}
        httpx.delete(f"{account.platform.url}/api/flow-executions/{execution}", headers=headers).raise_for_status()
    account.start_worker("--pace", "0")
    assert execution not in account.wait_for("completed")


def test_an_execution_that_is_deleted_under_its_work_is_given_up(account: Account) -> None:
    worker = account.start_worker("--pace", "0.1")
    execution = account.wait_for("running")[0]
    headers = {"Authorization": f"Bearer {account.token}"}
    httpx.delete(f"{account.platform.url}/api/flow-executions/{execution}", headers=headers).raise_for_status()
    wait_until(lambda: f"execution {execution} was given up: " in worker.said, what="giving up")
    later = account.queue()
    assert account.wait_for("completed") == [later]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_worker_within_two_seconds(account: Account, number: signal.Signals) -> None:
    worker = account.start_worker("--pace", "5")
    account.wait_for("running")
    worker.process.send_signal(number)
    assert worker.ends_with(0, seconds=2)
    assert worker.said.endswith("demo worker: stopped\n")


def test_a_signal_ends_the_worker_while_a_server_does_not_answer(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        worker = Worker(f"http://127.0.0.1:{silent.getsockname()[1]}", "a.token", tmp_path)
        silent.settimeout(10)
        with silent.accept()[0]:
            worker.process.terminate()
            assert worker.ends_with(0, seconds=2)


def test_the_worker_outlives_a_restart_of_the_server(account: Account) -> None:
    worker = account.start_worker("--pace", "0.2")
    execution = account.wait_for("running")[0]
    account.platform.stop("live")
    wait_until(lambda: "waiting for the server at" in worker.said, what="noticing")
    account.platform.start("live")
    assert account.wait_for("completed") == [execution]
    assert worker.process.poll() is None
    history = account.history(execution)
    for task in TASKS:
        own = [update.status for update in history if update.task_name == task.name]
        assert own == ["queued", "running", "completed"]  # a batch whose answer was lost is not written twice


def test_two_workers_do_not_share_a_reports_folder(account: Account) -> None:
    account.start_worker("--pace", "0")
    account.wait_for("completed")
    second = account.start_worker("--pace", "0")
    assert second.ends_with(1)
    assert f"another demo worker already writes its reports to {second.reports}" in second.said


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        ("no.token", "was answered 401: "),
        (None, "was answered 403: "),
        (" ", "the environment variable FLOWPLATFORM_TOKEN must hold a service token"),
        ("tökn", "the service token holds characters that no token has"),
    ],
)
def test_a_refused_token_is_one_sentence_and_an_exit_code(
    platform: Platform, committed: None, tmp_path: Path, token: str | None, reason: str
) -> None:
    """None stands for a token that may only read."""
    worker = Worker(platform.url, make_token(make_organization(), ["read"]) if token is None else token, tmp_path)
    assert worker.ends_with(1)
    assert reason in worker.said
    assert len(worker.said.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--input", "/nowhere"], "the input folder /nowhere does not exist"),
        (["--pace", "-1"], "--pace must be a number of seconds, 0 or more"),
        (["--url", "nowhere"], "'nowhere' is not the address of a server"),
        (
            ["--url", "http://flows.example"],
            "would be readable on the way to http://flows.example: use https",
        ),
        (["--reports", "/proc/reports"], "/proc/reports: "),
    ],
)
def test_arguments_that_cannot_be_used_are_one_sentence_and_an_exit_code(
    tmp_path: Path, arguments: list[str], reason: str
) -> None:
    worker = Worker("http://127.0.0.1:1", "a.token", tmp_path, *arguments)
    assert worker.ends_with(1)
    assert reason in worker.said
    assert len(worker.said.splitlines()) == 1


def test_the_worker_needs_nothing_of_django() -> None:
    code = "import sys, flowplatform.demo.__main__; sys.exit('django' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
