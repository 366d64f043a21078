"""Where everything is measured: a database and a broker of its own, filled, with a worker and beat beside the servers.

Nothing is left of it afterwards. PostgreSQL has its own settings: what is answered is on the disk.
"""

import http.client
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings
from django.core.management import call_command
from django.db import connection, connections

from benchmarks.packages import folder_with
from benchmarks.procfs import families
from benchmarks.seed import caught_statement, fill
from benchmarks.servers import Server, background
from benchmarks.workload import Execution
from flowplatform import embedded, env
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.services import authenticate_token
from flowplatform.demo.credentials import ensure_demo
from flowplatform.embedded.locations import sockets_dir
from flowplatform.processes import ProcessGroup, Program
from flowplatform.topology import HOST

_START_SECONDS = 60.0
_DRAIN_SECONDS = 30.0
_SETTINGS = ("server_version", "fsync", "synchronous_commit", "full_page_writes", "shared_buffers", "wal_level")
_PENDING = 'SELECT EXISTS (SELECT FROM notifications_event WHERE "offset" IS NULL)'


class Processes(ProcessGroup):
    """A group whose processes can be asked for their ids."""

    def pid(self, name: str) -> int:
        """Return the id of a process that was started."""
        return self._processes[name].pid


class Stage:
    """The database with its executions, and the processes."""

    def __init__(self, home: Path, processes: Processes, token: str, actor: Actor) -> None:
        self.token = token
        self.database = embedded.database_url(home)
        self.actor = actor.name
        self.organization = str(next(iter(actor.organization_ids or ())))
        self.executions: list[Execution] = []
        self.status_sql = ""
        self.status_parameters: dict[str, str] = {}
        self.roots = {"postgres": [_first_line(home / "postgres" / "postmaster.pid")]}
        self.roots["valkey"] = [_first_line(sockets_dir(home) / "valkey.pid")]
        self._home = home
        self._account = actor
        self._processes = processes

    def fill(self, executions: int) -> None:
        """Make the executions, and see how the platform writes a status batch."""
        self.executions = fill(self._account, executions)
        self.status_sql, self.status_parameters = caught_statement(self._account, self.executions[0])

    def start_background(self) -> None:
        """Start the worker and beat."""
        for program in background(self._home):
            self._processes.start(program)
            self.roots.setdefault("worker", []).append(self._processes.pid(program.name))

    def serve(self, server: Server) -> int:
        """Start a server of the platform and return its port when it answers. Raises NotInstallableError."""
        port = self.launch(server)
        self.wait(port)
        return port

    def launch(self, server: Server, port: int = 0) -> int:
        """Start a server of the platform and return the port that it will listen on. Raises NotInstallableError."""
        path = {"PYTHONPATH": str(folder_with(server.name, server.packages))} if server.packages else {}
        port = port or free_port()
        program = server.program(self._home, port)
        self.start(server.name, Program(server.name, program.command, {**program.environment, **path}))
        return port

    def start(self, name: str, program: Program) -> None:
        """Start a process and remember it under a name."""
        self._processes.start(program)
        self.roots[name] = [self._processes.pid(program.name)]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have the worker and beat stand still, so that what is measured has the machine for itself."""
        # Not in the middle of a transaction: what was published is out of the way before.
        self.drain()
        pids = list(families(self.roots.get("worker", [])))
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute('DELETE FROM notifications_event WHERE "offset" IS NULL')  # the floor's: nobody's news
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def drain(self) -> float:
        """Wait until every event has its number; return the seconds that it took."""
        begin = time.perf_counter()
        with connection.cursor() as cursor:
            while True:
                cursor.execute(_PENDING)
                if not cursor.fetchone()[0]:
                    return time.perf_counter() - begin
                if time.perf_counter() - begin > _DRAIN_SECONDS:
                    raise RuntimeError(f"Events wait for their numbers after {_DRAIN_SECONDS:.0f} s.")
                self._processes.check()
                time.sleep(0.01)

    def check(self) -> None:
        """Raise ProcessError if a process has ended."""
        self._processes.check()

    def counts(self) -> dict[str, int]:
        """Return how many rows the batches have made in all."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT (SELECT count(*) FROM executions_taskstatus), (SELECT count(*) FROM tags_tasktag)")
            return dict(zip(("status", "tag"), cursor.fetchone(), strict=True))

    def postgresql(self) -> dict[str, str]:
        """Return the version and the settings that matter."""
        with connection.cursor() as cursor:
            cursor.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [list(_SETTINGS)])
            return dict(cursor.fetchall())

    def wait(self, port: int, path: str = "/api/flows") -> None:
        """Return when a server answers on the port."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers(port, path):
            self._processes.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"http://{HOST}:{port} does not answer after {_START_SECONDS:.0f} s.")
            time.sleep(0.05)

    def _answers(self, port: int, path: str) -> bool:
        client = http.client.HTTPConnection(HOST, port, timeout=5)
        try:
            client.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
            return client.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            client.close()


@contextmanager
def stage() -> Iterator[Stage]:
    """Have a stage in the data directory for the duration of a with statement."""
    home = env.DATA_DIR
    processes = Processes(logs=home / "logs", cwd=env.BASE_DIR, environment=_environment(home))
    with embedded.servers(home):
        call_command("migrate", verbosity=0, interactive=False)
        token = ensure_demo(home).token
        actor = authenticate_token(token)
        assert actor is not None
        try:
            yield Stage(home, processes, token, actor)
        finally:
            processes.stop()
            connections.close_all()


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def _environment(home: Path) -> dict[str, str]:
    """Return our environment, with limits that no benchmark reaches: looking after them is measured all the same."""
    inherited = {name: value for name, value in os.environ.items() if name != "FLOWPLATFORM_ROLE"}
    limits = {f"RATE_LIMIT_{name.upper()}": "100000000/10 seconds" for name in settings.RATE_LIMITS}
    limits["SOCKETS_PER_ADDRESS"] = str(settings.SOCKETS_PER_PROCESS)
    return {**inherited, **limits, "FLOWPLATFORM_DATA_DIR": str(home), "PYTHONUNBUFFERED": "1"}


def _first_line(path: Path) -> int:
    return int(path.read_text().split("\n", 1)[0])
