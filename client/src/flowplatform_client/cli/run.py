"""`flowplatform run`: a command of any kind, reported as a task.

The command is run as if it stood there alone: it has our input, output, signals and terminal, we end as it ended, and
whatever becomes of the reporting changes nothing about it.
"""

import contextlib
import errno
import fcntl
import logging
import os
import pty
import re
import resource
import signal
import subprocess
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from flowplatform_client.cli.connection import connected
from flowplatform_client.cli.exits import CommandError
from flowplatform_client.cli.naming import flow_id_of
from flowplatform_client.errors import FlowPlatformError
from flowplatform_client.reporter import Reporter, TaskRun

EXECUTION_VARIABLE = "FLOWPLATFORM_EXECUTION"
TASK_VARIABLE = "FLOWPLATFORM_TASK"

TAIL_BYTES = 8 * 1024  # of what the command says on stderr, for the error
SETUP_SECONDS = 5.0  # for an execution of our own, while the command waits
LINGERING_SECONDS = 0.5  # for what others still say when the command has ended
CLOSE_SECONDS = 3.0

# SIGKILL and SIGSTOP cannot be passed on; SIGTSTP and the like come to all of a terminal's foreground.
_PASSED_ON = ("SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGCONT", "SIGWINCH")
_FROM_A_KEY = (signal.SIGINT, signal.SIGQUIT)
_ESCAPES = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")


def run_reported(command: Sequence[str], run: TaskRun | None, environment: Mapping[str, str]) -> int:
    """Run a command, report it as an attempt of a task, and return how it ended, as `subprocess` says it.

    127 is a command that is not there, 126 one that cannot be run. Nothing that goes wrong with the report is raised.
    """
    if run is not None:
        run.begin()
    try:
        with _Stderr() as stderr:
            code = _run(command, stderr, environment)
        error = None if code == 0 else {**_ending(command[0], code), "stderr": stderr.tail}
    except OSError as problem:  # of the start: afterwards there is nothing to fail
        code = 127 if problem.errno == errno.ENOENT else 126
        error = {"message": f"{command[0]} could not be started: {problem.strerror}", "exit_code": code}
        _say(error["message"])
    if run is not None:
        run.output = {"exit_code": code} if code >= 0 else None
        run.error = error
        run.finish("failed" if error else "completed")
    return code


def _run(command: Sequence[str], stderr: "_Stderr", environment: Mapping[str, str]) -> int:
    """Run a command to its end, with the signals that we get."""
    child: subprocess.Popen[bytes] | None = None
    early: list[int] = []

    def pass_on(number: int, _: object) -> None:
        if number == signal.SIGWINCH:
            stderr.resize()
        elif child is None:
            early.append(number)
        elif not (number in _FROM_A_KEY and _has_the_terminal()):
            child.send_signal(number)

    with _handled(pass_on):
        child = subprocess.Popen(command, stderr=stderr.theirs, env=environment)
        stderr.carry()
        for number in early:
            child.send_signal(number)
        return child.wait()


class _Stderr:
    """The command's stderr: everything goes on to ours, and the end of it is kept.

    Where ours is a terminal the command has one too, of the same size, which changes nothing that passes through.
    """

    def __init__(self) -> None:
        self._is_terminal = os.isatty(2)
        self._kept = bytearray()
        self._carrier = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> "_Stderr":
        self._ours, self.theirs = pty.openpty() if self._is_terminal else os.pipe()
        if self._is_terminal:
            tty.setraw(self.theirs)
            self.resize()
        return self

    def __exit__(self, *_: object) -> None:
        self._close_theirs()
        if self._carrier.ident is not None:
            # Not until the end: somebody who stays in the background may keep it open for ever.
            self._carrier.join(LINGERING_SECONDS)

    @property
    def tail(self) -> str:
        """The end of what was said, as text without colours."""
        return _ESCAPES.sub(b"", bytes(self._kept)).replace(b"\0", b"").decode("utf-8", "replace").strip()

    def carry(self) -> None:
        """Begin to carry, once the command has its end."""
        self._close_theirs()
        self._carrier.start()

    def resize(self) -> None:
        """Give their terminal the size of ours."""
        if self._is_terminal:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._ours, termios.TIOCSWINSZ, fcntl.ioctl(2, termios.TIOCGWINSZ, b"\0" * 8))

    def _carry(self) -> None:
        with contextlib.suppress(OSError):  # a terminal ends with an error
            while piece := os.read(self._ours, 64 * 1024):
                self._kept += piece
                del self._kept[:-TAIL_BYTES]
                with contextlib.suppress(OSError):  # ours is closed: the command goes on
                    _write(2, piece)

    def _close_theirs(self) -> None:
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1


def _write(descriptor: int, piece: bytes) -> None:
    while piece:
        piece = piece[os.write(descriptor, piece) :]


@contextlib.contextmanager
def _handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Handle the signals that are passed on; those that are ignored, as under `nohup`, stay so for the command too."""
    numbers = [getattr(signal, name) for name in _PASSED_ON]
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: known for number, known in before.items() if known is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known if known is not None else signal.SIG_DFL)


def _has_the_terminal() -> bool:
    """Say whether keys of a terminal come to us. Then they come to the command too, which is of the same group."""
    with contextlib.suppress(OSError), Path("/dev/tty").open("rb", buffering=0) as terminal:
        return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    return False


def _ending(name: str, code: int) -> dict[str, Any]:
    if code < 0:
        by = signal.Signals(-code).name if -code in {*signal.Signals} else f"signal {-code}"
        return {"message": f"{name} was ended by {by}", "signal": by}
    return {"message": f"{name} ended with exit code {code}", "exit_code": code}


def _end_like(code: int) -> int:
    """End by the signal that the command was ended by, as a shell expects it; else return the exit code."""
    if code >= 0:
        return code
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
    return 128 - code  # a signal that ends nobody


# --- The command line -----------------------------------------------------------------------------------------------


@click.command(context_settings={"allow_interspersed_args": False})
@click.option("--task", required=True, help="The task that the command does.")
@click.option(
    "--execution", envvar=EXECUTION_VARIABLE, help=f"The execution that it belongs to [{EXECUTION_VARIABLE}]."
)
@click.option("--flow", help="Name or id of a flow: the command gets an execution of its own.")
@click.option("--attempt", type=click.IntRange(min=0), help="Which attempt it is, from 0 (default: the next one).")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_context
def run(
    context: click.Context, task: str, execution: str | None, flow: str | None, attempt: int | None, command: tuple[str]
) -> None:
    r"""Run COMMAND and report it as a task: running, then completed or failed with the end of its stderr.

    \b
    flowplatform run --execution ID --task build -- make all
    flowplatform run --flow Nightly --task build -- make all

    Input, output, signals and exit code are those of the command. If the platform is away it is told later.
    """
    if execution is None and flow is None:
        raise click.UsageError("name the execution (--execution) or a flow to run (--flow)")
    logging.basicConfig(format="flowplatform run: %(message)s", level=logging.WARNING)
    reporter = _reporter(execution, flow)
    environment = {**os.environ, TASK_VARIABLE: task}
    if reporter is None:
        context.exit(_end_like(run_reported(command, None, environment)))
    if flow is not None:
        reporter.execution_status("running")
    told = TaskRun(reporter, task, attempt=attempt)
    code = run_reported(command, told, {**environment, EXECUTION_VARIABLE: reporter.execution_id})
    if flow is not None:
        reporter.execution_status("failed" if code else "completed")
    reporter.close(CLOSE_SECONDS)
    context.exit(_end_like(code))


def _reporter(execution: str | None, flow: str | None) -> Reporter | None:
    """Return a reporter of an execution, or of a new one of a flow; say why not, where that is not possible now."""
    try:
        platform = connected(patience_seconds=SETUP_SECONDS)
        if flow is not None:  # that counts more than what the environment says
            queued = platform.executions.create(flow_id_of(platform, flow))
            execution = queued.id
            _say(queued.page)
        return Reporter(platform, str(execution))
    except Exception as problem:  # no file, certificate or proxy of ours may keep it from running
        known = isinstance(problem, FlowPlatformError | CommandError | ValueError)
        _say(f"the command runs unreported: {problem if known else f'{type(problem).__name__}: {problem}'}")
        return None


def _say(line: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"flowplatform run: {line}", file=sys.stderr, flush=True)
