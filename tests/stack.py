"""Real processes of the platform for a test: Daphne, a Celery worker and beat, each of which can be killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parent.parent


def wait_until(truth: Callable[[], object], *, seconds: float = 15, what: str = "it") -> None:
    """Wait until `truth()` is true; fail with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_port_pair() -> int:
    """Return a port that is free, as is the next one."""
    while True:
        port = free_port()
        with suppress(OSError), socket.create_server(("127.0.0.1", port + 1)):
            return port


class Stack:
    """The processes of one data directory, without its servers. `environment` is laid over ours."""

    def __init__(
        self,
        data_dir: Path,
        environment: dict[str, str] | None = None,
        port: int | None = None,
        logs: Path | None = None,
    ) -> None:
        self.data_dir = data_dir
        self._logs = logs or data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ws_url = f"ws://127.0.0.1:{self.port}"
        self._environment = {**os.environ, "FLOWPLATFORM_DATA_DIR": str(data_dir), **(environment or {})}
        self._environment.pop("FLOWPLATFORM_ROLE", None)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        celery = ["celery", "--quiet", "-A", "flowplatform.celery"]
        quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
        self._commands = {
            "live": ["flowplatform.live", "--port", str(self.port)],
            "worker": [*celery, "worker", "--pool", "threads", "--concurrency", "2", *quiet],
            "beat": [*celery, "beat", "--schedule", str(data_dir / "beat-schedule")],
        }

    def manage(self, *arguments: str) -> str:
        """Run a management command and return what it printed."""
        command = [sys.executable, "-m", "django", *arguments, "--settings", "flowplatform.settings"]
        return subprocess.run(
            command, cwd=ROOT, env=self._environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    def start(self, *names: str) -> None:
        """Start processes by name (all without a name) and wait until HTTP answers if the live one is among them."""
        for name in names or self._commands:
            with self.log(name).open("ab") as log:
                self._processes[name] = subprocess.Popen(
                    [sys.executable, "-m", *self._commands[name]],
                    cwd=ROOT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        if "live" in (names or self._commands):
            wait_until(self._answers, seconds=30, what="the first answer")

    def log(self, name: str) -> Path:
        return self._logs / f"test-{name}.log"

    def stop(self, *names: str, with_signal: int = signal.SIGTERM) -> None:
        """End processes by name (all without a name) and wait for them."""
        for name in names or list(self._processes):
            process = self._processes.pop(name)
            process.send_signal(with_signal)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _answers(self) -> bool:
        assert self._processes["live"].poll() is None, self.log("live").read_text()
        try:
            return httpx.get(f"{self.url}/api/flows").status_code == 401
        except httpx.TransportError:
            return False
