"""The `flowplatform` command as people and scripts call it, against the real server."""

import itertools
import json
import os
import pty
import re
import select
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from flowplatform_client import FlowPlatform
from flowplatform_client.cli import states

from flowplatform.pages import run_states
from tests.builders import definition, make_organization, make_token
from tests.stack import free_port, wait_until
from tests.traces import make_document, write_trace

COMMAND = [sys.executable, "-m", "flowplatform_client"]
PIPELINE = definition("extract", "classify", classify=["extract"])


class Shell:
    """Somebody's shell: an own home, and nothing of Flow Platform in the environment but what is given."""

    def __init__(self, home: Path) -> None:
        self.home = home
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWPLATFORM_", "XDG_"))}
        self.environment = {**kept, "HOME": str(home), "TZ": "UTC"}

    def __call__(self, *arguments: str, code: int = 0, stdin: str = "", **environment: str) -> str:
        """Run a command to its end and return what it printed; what it says of errors is kept in `said`."""
        done = subprocess.run(
            [*COMMAND, *arguments],
            env={**self.environment, **environment},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.said = done.stderr
        assert "Traceback" not in done.stderr
        assert done.returncode == code, done.stderr + done.stdout
        return done.stdout

    def refusal(self, *arguments: str, code: int, stdin: str = "", **environment: str) -> str:
        """Run a command that is refused: nothing on standard output, and one sentence, which is returned."""
        assert self(*arguments, code=code, stdin=stdin, **environment) == ""
        (sentence,) = self.said.splitlines()
        assert sentence.startswith("flowplatform: ")
        return sentence.removeprefix("flowplatform: ")

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*COMMAND, *arguments], env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    @property
    def file(self) -> Path:
        return self.home / ".config" / "flowplatform" / "credentials.json"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.fixture
def here(shell: Shell, client: FlowPlatform) -> Shell:
    """A shell that knows server and token, as after `login`."""
    shell.environment |= {"FLOWPLATFORM_URL": client.url, "FLOWPLATFORM_TOKEN": client.address.token}
    return shell


# --- Signing in -----------------------------------------------------------------------------------------------------


def test_login_keeps_what_the_server_accepted_where_nobody_else_can_read_it(shell: Shell, client: FlowPlatform) -> None:
    token = client.address.token
    client.flows.create("Invoices", PIPELINE)
    assert "no server is known: flowplatform login, or set" in shell.refusal("flows", code=4)
    refused = shell.refusal("login", "--url", client.url, stdin="wrong.token\n", code=4)
    assert "was answered 401" in refused
    assert not shell.file.exists()
    said = shell("login", "--url", f"{client.url}/", stdin=f"{token}\n")
    assert said == f"Logged in to {client.url}; kept in {shell.file}.\n"
    assert stat.S_IMODE(shell.file.stat().st_mode) == 0o600
    assert [path.name for path in shell.file.parent.iterdir()] == ["credentials.json"]
    assert "Invoices" in shell("flows")
    shell.file.chmod(0o644)
    assert shell.refusal("flows", code=4).startswith(f"others can read the token in {shell.file}: ")
    assert shell("logout") == f"Forgotten: {shell.file} is gone.\n"
    assert not shell.file.exists()


def test_login_asks_a_person_and_does_not_show_the_token(shell: Shell, client: FlowPlatform) -> None:
    screen = Terminal(shell, "login")
    screen.wait_for("Address of the server: ")
    screen.type(client.url)
    screen.wait_for("Service token: ")
    screen.type(client.address.token)
    assert screen.ends() == 0
    assert client.address.token not in screen.text
    assert json.loads(shell.file.read_text())["token"] == client.address.token


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "sentence"),
    [
        (["--url", "nowhere"], "a.token", 4, "'nowhere' is not the address of a server"),
        (["--url", "http://flows.example"], "a.token", 4, "the token would be readable on the way"),
        ([], "a.token", 2, "--url is missing"),
    ],
)
def test_what_login_cannot_use_is_one_sentence(
    shell: Shell, arguments: list[str], stdin: str, code: int, sentence: str
) -> None:
    assert sentence in shell.refusal("login", *arguments, stdin=stdin, code=code)


def test_a_server_that_is_away_is_one_sentence_and_a_code_of_its_own(shell: Shell) -> None:
    where = {"FLOWPLATFORM_URL": f"http://127.0.0.1:{free_port()}", "FLOWPLATFORM_TOKEN": "a.token"}
    patience = "import sys; from flowplatform_client.cli import connection, main; connection.PATIENCE_SECONDS = 0.1"
    code = f"{patience}; connection.connected.__kwdefaults__['patience_seconds'] = 0.1; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "flows"], env={**shell.environment, **where}, capture_output=True, text=True
    )
    assert done.returncode == 3
    assert re.fullmatch(r"flowplatform: GET http://127\S+ got no answer: .*\n", done.stderr)


# --- Lists and tags -------------------------------------------------------------------------------------------------


def test_flows_and_runs_are_listed_for_people_and_for_programs(here: Shell, client: FlowPlatform) -> None:
    flow = client.flows.create("Invoices [red]", PIPELINE)
    first, second = client.executions.create(flow.id), client.executions.create(flow.id)
    client.executions.set_status(first.id, "failed")
    (row,) = [line for line in here("flows").splitlines() if flow.id in line]
    assert re.match(r"\s*Invoices \[red\]\s+1\s+2\s+20\d\d-", row)
    assert json.loads(here("flows", "--json")) | {"definition": None} == _json(flow) | {"definition": None}
    lines = here("runs", "Invoices [red]").splitlines()
    assert [line.split()[:2] for line in lines] == [["run", "status"], ["#2", "queued"], ["#1", "failed"]]
    (only,) = here("runs", flow.id, "--json", "--status", "failed").splitlines()
    assert (json.loads(only)["id"], json.loads(only)["run_number"]) == (first.id, 1)
    assert here("runs", flow.id, "--limit", "1", "--json").count(second.id) == 1


def _json(flow: Any) -> dict[str, Any]:
    times = {"created_at": flow.created_at.isoformat(), "updated_at": flow.updated_at.isoformat()}
    return {**vars(flow), **times}


def test_a_tag_is_added_and_removed(here: Shell, client: FlowPlatform) -> None:
    execution = client.executions.create(client.flows.create("Invoices", PIPELINE).id)
    named = ("tag", execution.id, "extract", "late", "--type", "quality", "--metadata", '{"days": 3}')
    assert here(*named) == "quality:late on extract: added\n"
    assert json.loads(here(*named, "--json"))["status"] == "already_exists"
    assert client.tags.list(execution.id)[0].tag_metadata == {"days": 3}
    assert here(*named, "--remove") == "quality:late on extract: removed\n"
    assert client.tags.list(execution.id) == []


def test_refusals_are_one_sentence_with_their_code(here: Shell, client: FlowPlatform) -> None:
    execution = client.executions.create(client.flows.create("Invoices", PIPELINE).id)
    here.environment["FLOWPLATFORM_TOKEN"] = make_token(make_organization())  # a stranger's
    cases = [
        (["watch", execution.id], 1, f"/api/flow-executions/{execution.id} was answered 404: Not found. [request "),
        (["runs", "Invoices"], 1, "there is no flow 'Invoices': flowplatform flows lists them"),
        (["watch", "not-an-id"], 2, "'not-an-id' is not the id of an execution: flowplatform runs FLOW lists them"),
        (["tag", execution.id, "a", "b", "--metadata", "{"], 2, "--metadata is not JSON: "),
        (["replay", "/nowhere.json"], 1, "/nowhere.json cannot be read: No such file or directory"),
        (["no-such-command"], 2, "No such command"),
    ]
    for arguments, code, sentence in cases:
        assert sentence in here.refusal(*arguments, code=code), arguments


# --- Watching -------------------------------------------------------------------------------------------------------


@pytest.fixture
def execution_id(client: FlowPlatform) -> str:
    flow = client.flows.create("Invoices", PIPELINE)
    execution = client.executions.create(flow.id)
    client.statuses.add(execution.id, [("extract", "queued")])
    wait_until(lambda: client.events.read(flow.id).offset == 2, what="two events")
    return execution.id


def test_watch_prints_every_event_of_the_execution_as_json_and_ends_with_its_tasks(
    here: Shell, client: FlowPlatform, execution_id: str
) -> None:
    watching = here.start("watch", execution_id, "--json")
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline()) | {"epoch": ""} == {"type": "reset", "epoch": "", "offset": 2}
    client.executions.create(client.executions.get(execution_id).flow_id)  # another one does not matter
    client.statuses.add(execution_id, [("extract", "running")])
    client.statuses.add(execution_id, [("extract", "completed"), ("classify", "skipped")])
    printed, _ = watching.communicate(timeout=20)
    events = [json.loads(line) for line in printed.splitlines()]
    assert [event["type"] for event in events] == ["task_status.added"] * 2
    assert {event["flow_execution_id"] for event in events} == {execution_id}
    assert [row["status"] for event in events for row in event["data"]["statuses"]] == [
        "running",
        "completed",
        "skipped",
    ]
    assert watching.returncode == 0


def test_watch_writes_a_line_for_each_change_into_a_log_and_says_by_its_code_how_it_ended(
    here: Shell, client: FlowPlatform, execution_id: str
) -> None:
    watching = here.start("watch", execution_id)
    assert watching.stdout is not None
    assert re.match(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d extract queued\n", watching.stdout.readline())
    client.statuses.add(execution_id, [("extract", "failed")])
    assert watching.stdout.readline().endswith(" extract failed\n")
    client.executions.set_status(execution_id, "failed")
    assert watching.communicate(timeout=20)[0] == f"Invoices {execution_id}: failed\n"
    assert watching.returncode == 5


def test_watch_draws_the_tasks_in_a_terminal_and_ctrl_c_ends_it(
    here: Shell, client: FlowPlatform, execution_id: str
) -> None:
    client.task_executions.put(execution_id, "classify", 0, "failed", error="no model\nTraceback")
    screen = Terminal(here, "watch", execution_id)
    screen.wait_for("○ queued")
    client.statuses.add(execution_id, [("extract", "running"), ("classify", "failed")])
    screen.wait_for("● running")
    screen.wait_for("✕ failed")
    screen.wait_for("1 of 2")
    assert "no model" in screen.text
    assert "Traceback" not in screen.text
    screen.process.send_signal(signal.SIGINT)
    assert screen.ends() == 130


class Terminal:
    """A command in a terminal of 30 lines, with what it has written there."""

    def __init__(self, shell: Shell, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        self.text = ""
        environment = {**shell.environment, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "30"}
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
        )
        os.close(theirs)

    def type(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def wait_for(self, text: str, seconds: float = 20) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.text:
            assert time.monotonic() < deadline, self.text
            self._read(0.1)

    def ends(self) -> int:
        while self.process.poll() is None:
            self._read(0.1)
        self._read(0)
        os.close(self._ours)
        return self.process.returncode

    def _read(self, seconds: float) -> None:
        if select.select([self._ours], [], [], seconds)[0]:
            try:
                piece = os.read(self._ours, 65536)
            except OSError:  # the other side is closed
                time.sleep(seconds)
                return
            self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", piece.decode(errors="replace"))


def test_states_look_as_on_the_pages() -> None:
    assert (states.MEANINGS, states.GLYPHS) == (run_states.MEANINGS, run_states.GLYPHS)
    assert set(states.STYLES) == set(states.GLYPHS)
    for numbers in itertools.product((0, 1), repeat=len(states.GLYPHS)):
        counts = Counter(dict(zip(states.GLYPHS, numbers, strict=True)))
        for status in ("queued", "running", "failed"):
            expected = run_states.meaning_of_run(status, counts, sum(numbers)).state
            assert states.state_of_run(status, counts) == expected, (status, counts)


# --- The rest -------------------------------------------------------------------------------------------------------


def test_a_trace_is_replayed_and_its_summary_is_json_if_asked_for(
    here: Shell, client: FlowPlatform, tmp_path: Path
) -> None:
    trace = str(write_trace(tmp_path, make_document()))
    (line,) = here("replay", trace, "--speed", "40", "--executions", "2", "--json").splitlines()
    summary = json.loads(line)
    assert (summary["statuses"], summary["equal"]) == (24, True)
    runs = [*client.executions.list(summary["flow_id"])]
    assert [(run.id, run.status) for run in runs] == [(run, "completed") for run in summary["executions"][::-1]]


def test_what_others_have_reported_does_nothing_to_the_terminal(here: Shell, client: FlowPlatform) -> None:
    flow = client.flows.create("Invoices \x1b]0;paid\x07", PIPELINE)
    execution = client.executions.create(flow.id)
    task = PIPELINE["tasks"][0]["name"]
    client.statuses.add(execution.id, [(task, "\x1b[2Jdone\x9b")])
    client.executions.set_status(execution.id, "completed")
    shown = here("flows") + here("runs", flow.id) + here("watch", execution.id)
    assert "Invoices \ufffd]0;paid\ufffd" in shown
    assert f"{task} \ufffd[2Jdone\ufffd" in shown
    assert not set(shown) & {"\x1b", "\x07", "\x9b"}


def test_a_shell_completes_commands_and_the_names_of_flows(here: Shell, client: FlowPlatform) -> None:
    flow = client.flows.create("Invoices", PIPELINE)
    script = here("completion", "bash")
    assert "complete -o nosort -F _flowplatform_completion flowplatform" in script
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)

    def completed(line: str) -> str:
        words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
        return here(_FLOWPLATFORM_COMPLETE="bash_complete", **words)

    assert completed("flowplatform w") == "plain,watch\n"
    assert completed("flowplatform runs Inv") == "plain,Invoices\n"
    assert completed(f"flowplatform runs {flow.id[:30]}") == f"plain,{flow.id}\n"
    here.environment["FLOWPLATFORM_URL"] = f"http://127.0.0.1:{free_port()}"
    assert completed("flowplatform runs Inv").strip() == ""
