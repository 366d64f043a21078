"""A PostgreSQL and a Valkey of the suite's own, as the embedded mode makes them, each of which can be hurt."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import redis
from psycopg.rows import dict_row

from flowplatform.embedded import server
from flowplatform.embedded.locations import APPLICATION, DATABASE, POSTGRES_SOCKET, SUPERUSER, VALKEY_SOCKET
from flowplatform.embedded.place import Place
from tests.stack import wait_until

MOST_CONNECTIONS = 80  # few, so that taking them all is quick

_TERMINATE = """
    SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity
    WHERE pid <> pg_backend_pid() AND datname = current_database() AND pid <> ALL(%s)
"""


class Postgres(server.Postgres):
    """The database."""

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return self.place.sockets / POSTGRES_SOCKET

    def command(self) -> list[str | Path]:
        return [*super().command(), "-c", f"max_connections={MOST_CONNECTIONS}"]

    def connect(self) -> psycopg.Connection[dict[str, Any]]:
        """Return a connection of the superuser's, past the proxy and past every rule for roles."""
        return psycopg.connect(
            host=str(self.place.sockets), user=SUPERUSER, dbname=DATABASE, autocommit=True, row_factory=dict_row
        )

    def crash(self) -> None:
        """Shut down in immediate mode, which is what a crash leaves behind."""
        os.kill(int(self.pid_file.read_text().split("\n", 1)[0]), signal.SIGQUIT)
        wait_until(lambda: not self.alive(), what="the end of PostgreSQL")

    def start(self) -> None:
        """Start, and recover what a crash left."""
        self.ensure_running(lambda _: None)

    def terminate_backends(self) -> int:
        """End every connection of the platform; return how many there were."""
        return self._terminate_others([])

    @contextmanager
    def exhausted(self) -> Iterator[None]:
        """Hold every connection that anybody but a superuser could have."""
        with ExitStack() as held:
            ours: list[int] = []
            while True:
                with suppress(psycopg.OperationalError):
                    while True:
                        ours.append(self._hold_one(held))
                if not self._terminate_others(ours):
                    break
            yield

    def _hold_one(self, held: ExitStack) -> int:
        url = f"host={self.place.sockets} user={APPLICATION} dbname={DATABASE}"
        return held.enter_context(psycopg.connect(url, autocommit=True)).info.backend_pid

    def _terminate_others(self, ours: list[int]) -> int:
        with self.connect() as connection:
            row = connection.execute(_TERMINATE, [ours]).fetchone()
        assert row is not None
        return int(row["ended"])


class Valkey:
    """Broker and channel layer. It keeps nothing, so a restart is also a loss of all that was in it."""

    def __init__(self, place: Place) -> None:
        self.socket = place.sockets / VALKEY_SOCKET
        self._place = place
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [*server.Valkey(self._place, -1).command()]
        self.socket.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, start_new_session=True, **self._place.account.popen_arguments()
        )
        wait_until(self._answers, what="Valkey's first answer")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def flush(self) -> None:
        """Lose everything that is in it."""
        self.client().flushall()

    def client(self) -> redis.Redis:
        """Return a client that goes past the proxy."""
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5)

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False
