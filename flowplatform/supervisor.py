"""The supervisor: brings the whole platform up on one machine, keeps all of it running or none, and takes it down.

1. the data directory is ours: one platform for each
2. PostgreSQL and Valkey run, unless DATABASE_URL and REDIS_URL name others
3. the database has its tables, and the demo organization its login and token
4. the processes run: live (HTTP and sockets, or web beside it for HTTP), worker, beat, and the demo worker
5. the address answers, and `<data dir>/up.json` tells other commands about it
"""

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from typing import NoReturn

from django.core.management import call_command
from django.db import DatabaseError, connection, connections
from rich.console import Console

from flowplatform import env
from flowplatform.demo.credentials import DemoCredentials, ensure_demo
from flowplatform.embedded import EmbeddedError, Servers, locks, servers
from flowplatform.embedded.locations import make_data_dir
from flowplatform.processes import ProcessError, ProcessGroup
from flowplatform.progress import Progress
from flowplatform.topology import HOST, Topology

_ANSWER_SECONDS = 60.0
_WATCH_SECONDS = 0.5


class PlatformError(Exception):
    """The platform cannot be brought up, or a part of it has failed; the message is one sentence."""


@dataclass(frozen=True)
class Platform:
    """A platform that runs."""

    topology: Topology
    credentials: DemoCredentials
    _servers: Servers
    _processes: ProcessGroup

    @property
    def url(self) -> str:
        """Where pages and API are."""
        return self.topology.url

    def check(self) -> None:
        """Raise PlatformError if a server or a process has ended."""
        with _as_platform_error():
            self._servers.check()
            self._processes.check()

    def watch(self) -> NoReturn:
        """Check again and again, until PlatformError or an interrupt by a person."""
        while True:
            self.check()
            time.sleep(_WATCH_SECONDS)


@contextmanager
def running_platform(
    *, data_dir: Path, port: int, demo: bool, web_processes: int | None = None, progress: Progress | None = None
) -> Iterator[Platform]:
    """Have the whole platform run for the duration of a with statement; port 0 takes any free one.

    With a number of web processes these have the port, and the sockets are on the one after it.
    Raises PlatformError, at the start or from a check, after everything has been stopped.
    """
    progress = progress or Progress(Console(stderr=True))
    with _as_platform_error(), ExitStack() as stack:
        home = make_data_dir(data_dir)
        stack.enter_context(_alone(home))
        wanted = _topology(port, web_processes)
        with progress.step("Starting PostgreSQL and Valkey"):
            used = servers(home, postgres=not env.DATABASE_URL, valkey=not env.REDIS_URL, report=progress.note)
            running = stack.enter_context(used)
        with progress.step("Bringing the database up to date"):
            credentials = _prepare_database(home, wanted)
        processes = ProcessGroup(logs=home / "logs", cwd=env.BASE_DIR, environment=_environment(home))
        stack.callback(processes.stop)
        for program in wanted.programs(home, credentials.token if demo else None):
            processes.start(program)
        with progress.step(f"Waiting for {wanted.url} to answer"):
            for each in wanted.http_ports:
                _wait_for_answer(each, credentials.token, processes)
        stack.enter_context(_announced(home, wanted))
        yield Platform(wanted, credentials, running, processes)


def running_url(data_dir: Path) -> str | None:
    """Return the address of the platform that runs on the data directory; `None` if none does."""
    try:
        url: str = json.loads(_announcement(data_dir).read_bytes())["url"]
        with locks.open_lock(_lock_path(data_dir)) as lock:
            return url if locks.is_held(lock) else None  # else it was killed and could not take its file away
    except (EmbeddedError, OSError, ValueError):
        return None


# --- The steps -----------------------------------------------------------------------------------------------------


@contextmanager
def _as_platform_error() -> Iterator[None]:
    """Give callers one kind of error."""
    try:
        yield
    except (EmbeddedError, ProcessError) as error:
        raise PlatformError(str(error)) from error


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Hold the data directory's platform lock. Raises PlatformError if another platform does."""
    with locks.open_lock(_lock_path(home)) as lock:
        if not locks.try_lock(lock):
            where = f" at {url}" if (url := running_url(home)) else ""
            raise PlatformError(
                f"Flow Platform already runs on {home}{where}: stop it first, or choose another --data-dir."
            )
        yield


def _topology(port: int, web_processes: int | None) -> Topology:
    """Return what to run on which ports. Raises PlatformError if one of them cannot be listened on."""
    port = _free_port(port)
    if web_processes is None:
        return Topology(port, port)
    return Topology(port, _free_port(port + 1, ", which is for the sockets,"), web_processes)


def _free_port(port: int, purpose: str = "") -> int:
    """Return the port, or a free one for 0. Raises PlatformError if it cannot be listened on."""
    with socket.socket() as probe:
        # As servers do: a connection of the last run that is still closing does not occupy the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise PlatformError(
                f"Port {port} of {HOST}{purpose} cannot be used ({error.strerror}): choose another with --port."
            ) from error
        found: int = probe.getsockname()[1]
    return found


def _prepare_database(home: Path, wanted: Topology) -> DemoCredentials:
    try:
        _check_connections(wanted)
        call_command("migrate", verbosity=0, interactive=False)
        return ensure_demo(home)
    except DatabaseError as error:
        raise PlatformError(f"The database cannot be used: {str(error).splitlines()[0]}") from error
    finally:
        connections.close_all()


def _check_connections(wanted: Topology) -> None:
    """Raise PlatformError if that many web processes could ask PostgreSQL for more connections than it has."""
    if wanted.web_processes is None:
        return
    with connection.cursor() as cursor:
        # What is reserved is not for us. `reserved_connections` is new in PostgreSQL 16, hence the default.
        cursor.execute(
            """
            SELECT current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
                 - coalesce(current_setting('reserved_connections', true)::int, 0)
            """
        )
        (allowed,) = cursor.fetchone()
    if (needed := wanted.database_connections) > allowed:
        raise PlatformError(
            f"With --web-processes {wanted.web_processes} the platform may need {needed} database connections, and"
            f" PostgreSQL allows {allowed}: choose fewer processes, or raise max_connections."
        )


def _figures(home: Path) -> Path:
    """Return an empty folder in which all processes count together, so that one address tells of all."""
    folder = home / "run" / "metrics"
    rmtree(folder, ignore_errors=True)
    return folder


def _environment(home: Path) -> dict[str, str]:
    """Return our environment without the role that this process has claimed for itself."""
    inherited = {name: value for name, value in os.environ.items() if name != "FLOWPLATFORM_ROLE"}
    return {
        **inherited,
        "DJANGO_SETTINGS_MODULE": "flowplatform.settings",
        "FLOWPLATFORM_DATA_DIR": str(home),
        "PROMETHEUS_MULTIPROC_DIR": str(_figures(home)),
        "PYTHONUNBUFFERED": "1",
    }


def _wait_for_answer(port: int, token: str, processes: ProcessGroup) -> None:
    """Return when the API takes our token: then it is ours that answers. Raises PlatformError if it never does."""
    deadline = time.monotonic() + _ANSWER_SECONDS
    while (status := _status(port, token)) != http.client.OK:
        processes.check()
        if time.monotonic() > deadline:
            found = f"answers {status}" if status else "does not answer"
            raise PlatformError(f"http://{HOST}:{port} {found} after {_ANSWER_SECONDS:.0f} s.")
        time.sleep(0.05)


def _status(port: int, token: str) -> int | None:
    """Return the HTTP status of a first request; `None` if nothing answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/api/flows", headers={"Authorization": f"Bearer {token}"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


@contextmanager
def _announced(home: Path, running: Topology) -> Iterator[None]:
    """Tell other commands the addresses for the duration of a with statement."""
    path = _announcement(home)
    path.write_text(json.dumps({"url": running.url, "sockets_url": running.sockets_url, "pid": os.getpid()}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _lock_path(home: Path) -> Path:
    return home / "up.lock"


def _announcement(home: Path) -> Path:
    return home / "up.json"
