"""Child processes that belong together: each with a log of its own, watched, and stopped as one."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from flowplatform.logfiles import last_words, start_log

_STOP_SECONDS = 10.0
_INTERRUPTS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)  # loaded before any fork: as little as possible may happen between fork and exec


class ProcessError(Exception):
    """A child process ended by itself; the message is one sentence that names it and says why."""


@dataclass(frozen=True)
class Program:
    """What to run, under a name for people and for its log file."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)  # on top of the group's


class ProcessGroup:
    """Child processes, of which none is expected to end before `stop`."""

    def __init__(self, *, logs: Path, cwd: Path, environment: Mapping[str, str]) -> None:
        self._logs = logs
        self._cwd = cwd
        self._environment = environment
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, program: Program) -> None:
        """Start a program in a session of its own: a Ctrl-C in the terminal is for us, who then stop it in order."""
        # An interrupt between the fork and the assignment would lose a running process.
        with start_log(self._log(program.name)) as log, _no_interrupts():
            self._processes[program.name] = subprocess.Popen(
                program.command,
                cwd=self._cwd,
                env={**self._environment, **program.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_begin_child,
            )

    def check(self) -> None:
        """Raise ProcessError if one of the processes has ended."""
        for name, process in self._processes.items():
            code = process.poll()
            if code is not None:
                log = self._log(name)
                raise ProcessError(f"The {name} process {_ending(code)}: {last_words(log)} ({log}).")

    def stop(self) -> None:
        """Ask all to end, wait up to ten seconds, and kill what is left: of those that crashed too, their children."""
        for process in self._processes.values():
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            # Its group outlives a program that was killed: the processes of a web server hold on to the port.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def _log(self, name: str) -> Path:
        return self._logs / f"{name}.log"


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Hold back the signals that end us for the duration of a with statement."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin_child() -> None:
    """Between fork and exec: listen to signals again, and end with the parent."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _INTERRUPTS)
    end_with_parent()


def end_with_parent() -> None:
    """Have this process asked to end when its parent is gone, even if that was killed. Linux only."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _ending(code: int) -> str:
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
