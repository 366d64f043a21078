"""The servers that are attacked, each a process of its own, and their memory."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from benchmarks import procfs
from tests.stack import ROOT, free_port, wait_until

# One web process: its threads are all that there are.
_COMMANDS = {
    "web": ["flowplatform.web", "--processes", "1", "--port"],
    "live": ["flowplatform.live", "--port"],
}


class Target:
    """A running server."""

    def __init__(self, name: str, port: int, root: int, log: Path) -> None:
        self.name = name
        self.port = port
        self.log = log
        self._pids = sorted(procfs.families([root]))

    def memory(self) -> float:
        """Return what its processes have resident now, in MiB."""
        return sum(procfs.resident_mib(pid) for pid in self._pids)

    def forget_peak(self) -> None:
        """Begin anew with the peak that `peak_memory` returns."""
        for pid in self._pids:
            with suppress(OSError):
                Path(f"/proc/{pid}/clear_refs").write_text("5")

    def peak_memory(self) -> float:
        """Return the most that its processes had resident since `forget_peak`, in MiB."""
        return sum(procfs.peak_mib(pid) for pid in self._pids)

    def survived(self) -> bool:
        """Say whether all of its processes are still there."""
        return all(Path(f"/proc/{pid}").exists() for pid in self._pids)


@contextmanager
def running(name: str, data_dir: Path) -> Iterator[Target]:
    """Run a server on the database of a data directory."""
    port, log = free_port(), data_dir / f"abused-{name}.log"
    environment = {**os.environ, "FLOWPLATFORM_DATA_DIR": str(data_dir)}
    environment.pop("FLOWPLATFORM_ROLE", None)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *_COMMANDS[name], str(port)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until(lambda: _answers(port), seconds=30, what=f"the first answer of {name}")
        yield Target(name, port, process.pid, log)
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/flows").status_code == 401
    except httpx.TransportError:
        return False
