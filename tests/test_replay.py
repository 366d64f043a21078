"""`manage.py replay` against the real server: what it plays, what it prints, and how it fails."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from django.core.management import CommandError, call_command
from flowplatform_client import FlowPlatform, TaskStatus
from flowplatform_client.replay.player import Player
from flowplatform_client.resources import Statuses

from flowplatform.management.commands import replay as command
from tests.builders import make_organization, make_token
from tests.conftest import Platform
from tests.stack import ROOT, free_port, wait_until
from tests.traces import REAL_TRACES, make_document, needs, write_trace


class Replays:
    """Replays for an organization of its own."""

    def __init__(
        self, platform: Platform, scopes: Sequence[str] = ("read", "status:write", "executions:write")
    ) -> None:
        self.url = platform.url
        self.token = make_token(make_organization(), scopes)
        self.client = FlowPlatform(self.url, self.token)

    def __call__(self, trace: Path, **options: Any) -> str:
        """Replay a trace and return what was printed."""
        printed = io.StringIO()
        call_command("replay", str(trace), url=self.url, token=self.token, stdout=printed, **options)
        return printed.getvalue()

    def flows(self) -> list[dict[str, Any]]:
        return self._get("flows")

    def executions(self) -> list[dict[str, Any]]:
        """Return the executions of the only flow."""
        return self._get("flow-executions", flow_id=self.flows()[0]["id"], page_size="100")

    def _get(self, path: str, **query: str) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.token}"}
        found: list[dict[str, Any]] = httpx.get(f"{self.url}/api/{path}", params=query, headers=headers).json()
        return found


@pytest.fixture
def replays(platform: Platform, committed: None) -> Iterator[Replays]:
    made = Replays(platform)
    yield made
    made.client.close()


def value_of(printed: str, name: str) -> str:
    """Return a value of the summary."""
    found = re.search(rf"^{re.escape(name)} +(.+)$", printed, re.MULTILINE)
    assert found, printed
    return found[1]


def test_a_trace_is_played_in_its_order_and_the_outcome_equals_it(replays: Replays, tmp_path: Path) -> None:
    printed = replays(write_trace(tmp_path, make_document()), speed=20)
    flow = replays.flows()[0]
    assert (flow["display_name"], flow["version"]) == ("diamond", 1)
    assert flow["definition"]["tasks"][-1] == {"name": "bottom", "title": "BOTTOM", "depends_on": ["left", "right"]}
    assert "diamond: 4 tasks, critical path 4.0 s. Played 20 times as fast as recorded it lasts about 0.2 s" in printed
    assert value_of(printed, "flow page") == f"{replays.url}/flows/{flow['id']}/"
    assert value_of(printed, "statuses sent").startswith("12 in ")
    assert 0.2 <= float(value_of(printed, "seconds")) < 2
    assert "final state equals the trace: yes" in printed
    execution = replays.executions()[0]
    assert execution["status"] == "completed"
    newest_first = [(row.task_name, row.status) for row in replays.client.statuses.history(execution["id"])]
    assert newest_first.index(("bottom", "queued")) < newest_first.index(("left", "completed"))


@pytest.mark.parametrize("trace", REAL_TRACES, ids=lambda path: path.stem)
def test_a_recorded_workflow_is_played_to_its_end(replays: Replays, trace: Path) -> None:
    needs(trace)
    assert "final state equals the trace: yes" in replays(trace, speed=400)


def test_executions_are_played_at_the_same_time(replays: Replays, tmp_path: Path) -> None:
    printed = replays(write_trace(tmp_path, make_document()), speed=8, executions=20)
    assert value_of(printed, "tasks") == "4 in 20 execution(s)"
    assert value_of(printed, "statuses sent").startswith("240 in ")
    assert float(value_of(printed, "seconds")) < 5
    assert [execution["status"] for execution in replays.executions()] == ["completed"] * 20


def test_more_than_a_hundred_due_statuses_go_in_several_batches(replays: Replays, tmp_path: Path) -> None:
    names = [f"task {number}" for number in range(250)]
    document = make_document({name: [] for name in names}, dict.fromkeys(names, 0.0))
    printed = replays(write_trace(tmp_path, document))
    assert value_of(printed, "statuses sent") == "750 in 8 batches"
    assert "final state equals the trace: yes" in printed


def test_a_flow_is_used_again_and_another_trace_of_its_name_is_a_version(replays: Replays, tmp_path: Path) -> None:
    document = make_document()
    for _ in range(2):
        replays(write_trace(tmp_path, document), speed=1000)
    assert [flow["version"] for flow in replays.flows()] == [1]
    document["workflow"]["specification"]["tasks"][0]["name"] = "another title"
    replays(write_trace(tmp_path, document), speed=1000)
    assert [flow["version"] for flow in replays.flows()] == [2]
    assert len(replays.executions()) == 3


def test_an_outcome_that_differs_is_told_with_the_task(
    replays: Replays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Statuses.add

    def forgetful(self: Statuses, execution_id: str, updates: Sequence[tuple[str, str]]) -> list[TaskStatus]:
        return add(self, execution_id, [update for update in updates if update != ("left", "completed")])

    monkeypatch.setattr(Statuses, "add", forgetful)
    printed = io.StringIO()
    with pytest.raises(CommandError) as caught:
        call_command(
            "replay",
            str(write_trace(tmp_path, make_document())),
            url=replays.url,
            token=replays.token,
            speed=20,
            stdout=printed,
        )
    execution = replays.executions()[0]["id"]
    assert str(caught.value).splitlines() == [
        "The final state differs from the trace:",
        f'"left" is running, not completed (execution {execution})',
        f'the history of "left" is queued, running, not queued, running, completed (execution {execution})',
        f'"bottom" was queued before its parent "left" was completed (execution {execution})',
    ]
    assert "final state equals the trace: no" in printed.getvalue()


def test_an_interrupted_replay_cancels_its_executions(
    replays: Replays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(player: Player) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Player, "play", interrupt)
    with pytest.raises(CommandError, match="Interrupted") as caught:
        replays(write_trace(tmp_path, make_document()), executions=2)
    assert caught.value.returncode == 130
    assert [execution["status"] for execution in replays.executions()] == ["cancelled", "cancelled"]


def test_a_refused_report_fails_the_executions(platform: Platform, committed: None, tmp_path: Path) -> None:
    replays = Replays(platform, ["read", "executions:write"])
    with pytest.raises(CommandError, match=r"task-status was answered 403: .*status:write.* \[request "):
        replays(write_trace(tmp_path, make_document()))
    assert [execution["status"] for execution in replays.executions()] == ["failed"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"speed": 0.0}, "--speed must be a number above 0."),
        ({"speed": float("nan")}, "--speed must be a number above 0."),
        ({"executions": 0}, "--executions must be from 1 to 1,000."),
        ({"url": "nowhere", "token": "t"}, "'nowhere' is not the address of a server"),
        ({"url": "http://127.0.0.1:1"}, "--url needs a service token: give --token, or set FLOWPLATFORM_TOKEN."),
        ({"url": "http://127.0.0.1:1", "token": "t"}, "http://127.0.0.1:1/api/flows.* got no answer: .*refused"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setattr(command, "PATIENCE_SECONDS", 0.1)
    with pytest.raises(CommandError, match=sentence):
        call_command("replay", str(write_trace(tmp_path, make_document())), **options)


def test_a_file_that_is_no_trace_ends_the_command_with_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    path.write_text(json.dumps({"schemaVersion": "1.4", "workflow": {}}))
    done = manage(tmp_path, "replay", str(path), "--url", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"CommandError: {path} is not a WfFormat 1.5 trace: schemaVersion: ")
    assert "Traceback" not in done.stderr


def manage(data_dir: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `manage.py` on a data directory of its own."""
    program = [sys.executable, "manage.py", *arguments, "--data-dir", str(data_dir)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPLATFORM_")}
    return subprocess.run(program, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=100)


@pytest.mark.slow
def test_without_an_address_the_running_platform_is_used_or_one_is_started(tmp_path: Path) -> None:
    """Both on one data directory: creating a database takes seconds."""
    data_dir = tmp_path / "data"
    trace = write_trace(tmp_path, make_document())
    alone = manage(data_dir, "replay", str(trace), "--speed", "40")
    assert alone.returncode == 0, alone.stderr
    assert "final state equals the trace: yes" in alone.stdout
    port = free_port()
    up = subprocess.Popen(
        [sys.executable, "manage.py", "up", "--port", str(port), "--data-dir", str(data_dir), "--no-demo"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until((data_dir / "up.json").exists, seconds=60, what="the platform is up")
        beside = manage(data_dir, "replay", str(trace), "--speed", "40")
    finally:
        up.send_signal(signal.SIGTERM)
        up.wait(30)
    assert beside.returncode == 0, beside.stderr
    assert f"Watch it at http://127.0.0.1:{port}/flows/" in beside.stdout
