"""`flowplatform run`: the command goes as it would alone, and the platform has it as an attempt of a task."""

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from executions.models import FlowExecution
from tests.client.reporting import PATIENCE_SECONDS, Run, way_to
from tests.conftest import Platform
from tests.stack import ROOT, free_port, wait_until

PYTHON = sys.executable
Wrapped = "subprocess.Popen[bytes]"


@pytest.fixture
def run(committed: None) -> Run:
    return Run("build", "test")


class Shell:
    """Runs commands with `flowplatform run`, as task `build` of a run unless told otherwise."""

    def __init__(self, run: Run, url: str, spool: Path) -> None:
        self.url = url
        self._run = run
        self._spool = spool

    def begin(
        self,
        *command: str,
        options: tuple[str, ...] = ("--task", "build"),
        before: tuple[str, ...] = (),
        **popen: object,
    ) -> Wrapped:
        """Begin to run a command; `before` is a program that runs ours."""
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "client" / "src"),
            "FLOWPLATFORM_URL": self.url,
            "FLOWPLATFORM_TOKEN": self._run.token,
            "FLOWPLATFORM_SPOOL": str(self._spool),
            "FLOWPLATFORM_EXECUTION": self._run.id,
        }
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        return subprocess.Popen(
            [*before, PYTHON, "-m", "flowplatform_client", "run", *options, *command],
            **{**pipes, "env": environment, **popen},  # type: ignore[arg-type]
        )

    def __call__(self, *command: str, options: tuple[str, ...] = ("--task", "build")) -> tuple[int, str, str]:
        """Run a command; return exit code, output and stderr."""
        process = self.begin(*command, options=options)
        said, errors = process.communicate(b"from stdin", timeout=PATIENCE_SECONDS)
        return process.returncode, said.decode(), errors.decode()


@pytest.fixture
def shell(run: Run, platform: Platform, tmp_path: Path) -> Shell:
    return Shell(run, platform.url, tmp_path / "spool")


def test_a_command_that_succeeds_is_completed_and_has_our_input_and_output(run: Run, shell: Shell) -> None:
    source = "import sys, os; print(sys.stdin.read()); print(os.environ['FLOWPLATFORM_TASK'], file=sys.stderr)"
    assert shell("--", PYTHON, "-c", source) == (0, "from stdin\n", "build\n")
    assert run.history() == [("build", "running"), ("build", "completed")]
    [attempt] = run.attempts("build")
    assert (attempt.processing_status, attempt.output, attempt.error) == ("completed", {"exit_code": 0}, None)
    assert attempt.started_at is not None
    assert attempt.completed_at is not None
    assert attempt.started_at < attempt.completed_at


def test_a_command_that_fails_has_its_exit_code_and_the_end_of_its_stderr_as_the_error(run: Run, shell: Shell) -> None:
    code, _, errors = shell("sh", "-c", "yes no rule | head -5000 >&2; printf '\\033[31mstop\\033[0m' >&2; exit 3")
    assert code == 3
    assert errors == "no rule\n" * 5000 + "\033[31mstop\033[0m"
    assert run.states() == {"build": "failed"}
    [attempt] = run.attempts("build")
    assert attempt.error["message"] == "sh ended with exit code 3"
    assert attempt.error["stderr"].endswith("no rule\nstop")
    assert len(attempt.error["stderr"]) < 9000


def test_a_command_that_is_killed_ends_us_in_the_same_way(run: Run, shell: Shell) -> None:
    code, _, _ = shell("sh", "-c", "kill -SEGV $$")
    assert code == -signal.SIGSEGV
    [attempt] = run.attempts("build")
    assert (attempt.processing_status, attempt.error["signal"]) == ("failed", "SIGSEGV")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_reach_the_command(run: Run, shell: Shell, number: signal.Signals) -> None:
    source = f"""if 1:
        import signal, sys, time
        signal.signal({int(number)}, lambda *_: sys.exit(7))
        print("ready", flush=True)
        time.sleep(20)
    """
    process = shell.begin(PYTHON, "-c", source, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 7
    [attempt] = run.attempts("build")
    assert attempt.error["exit_code"] == 7


def test_a_signal_that_is_ignored_is_ignored_by_the_command_too(shell: Shell) -> None:
    source = "import signal; print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)"
    process = shell.begin(PYTHON, "-c", source, before=("sh", "-c", """trap "" HUP; exec "$@" """, "sh"))
    assert process.communicate(timeout=PATIENCE_SECONDS)[0] == b"True\n"


def test_a_command_that_is_not_there_is_127_and_one_that_cannot_be_run_126(
    run: Run, shell: Shell, tmp_path: Path
) -> None:
    code, _, errors = shell("no-such-command")
    assert (code, errors) == (
        127,
        "flowplatform run: no-such-command could not be started: No such file or directory\n",
    )
    (tmp_path / "plain").write_text("text")
    assert shell(str(tmp_path / "plain"))[0] == 126
    assert [attempt.error["exit_code"] for attempt in run.attempts("build")] == [127, 126]


def test_while_the_platform_is_away_the_command_runs_and_is_told_of_later(
    run: Run, platform: Platform, tmp_path: Path
) -> None:
    with way_to(platform.port) as way:
        shell = Shell(run, way.url, tmp_path)
        way.turn("refuse")
        code, said, errors = shell("echo", "done")
        assert (code, said) == (0, "done\n")
        assert errors.startswith("flowplatform run: reports of execution")
        assert run.history() == []
        way.turn("pass")
        assert shell("echo", "again", options=("--task", "test"))[0] == 0
    assert run.states() == {"build": "completed", "test": "completed"}


def test_without_a_platform_to_ask_the_command_runs_unreported(run: Run, tmp_path: Path) -> None:
    shell = Shell(run, "nowhere", tmp_path)
    code, said, errors = shell("echo", "done")
    assert (code, said) == (0, "done\n")
    assert errors.startswith("flowplatform run: the command runs unreported: ")
    shell = Shell(run, f"http://127.0.0.1:{free_port()}", tmp_path)
    code, said, errors = shell("echo", "done", options=("--task", "build", "--flow", "Invoices"))
    assert (code, said) == (0, "done\n")
    assert "runs unreported" in errors


def test_a_flow_that_is_named_gets_an_execution(run: Run, shell: Shell) -> None:
    code, said, errors = shell(
        "sh", "-c", "echo $FLOWPLATFORM_EXECUTION", options=("--task", "build", "--flow", "Invoices")
    )
    assert code == 0
    execution = FlowExecution.objects.get(pk=said.strip())
    assert str(execution.pk) != run.id
    assert execution.flow_id == run.execution.flow_id
    assert execution.status == "completed"
    assert errors == f"flowplatform run: {shell.url}/executions/{execution.pk}/\n"


def test_neither_execution_nor_command_is_a_mistake(shell: Shell) -> None:
    assert shell(options=("--task", "build"))[0] == 2
    assert shell("true", options=())[0] == 2


@pytest.fixture
def terminal() -> Iterator[tuple[int, int]]:
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)


def test_a_command_in_a_terminal_has_one(shell: Shell, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    source = "import os; os.write(2, b'%r %r\\n' % (os.isatty(2), tuple(os.get_terminal_size(2))))"
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    process = shell.begin(PYTHON, "-c", source, stderr=theirs)
    os.close(theirs)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert os.read(ours, 1000) == b"True (120, 40)\r\n"


def test_a_key_that_interrupts_reaches_the_command_once(run: Run, shell: Shell, terminal: tuple[int, int]) -> None:
    ours, theirs = terminal
    source = """if 1:
        import signal, sys, time
        count = 0
        def note(*_):
            global count
            count += 1
        signal.signal(signal.SIGINT, note)
        print("ready", flush=True)
        while not count:
            time.sleep(0.01)
        time.sleep(0.3)
        sys.exit(10 + count)
    """
    process = shell.begin(
        PYTHON, "-c", source, stdin=theirs, stderr=theirs, start_new_session=True, preexec_fn=_take_the_terminal
    )
    os.close(theirs)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    os.write(ours, b"\x03")
    wait_until(lambda: process.poll() is not None)
    assert process.returncode == 11


def _take_the_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_who_stays_in_the_background_holds_nobody_up(run: Run, shell: Shell) -> None:
    begin = time.monotonic()
    assert shell("sh", "-c", "sleep 20 >/dev/null & exit 4")[0] == 4
    assert time.monotonic() - begin < 15
    assert run.states() == {"build": "failed"}
