"""The connection that a thread keeps is looked at before each request without asking the database, and not waited for
without an end.

With `CONN_HEALTH_CHECKS` Django sends a query for every request: one more way to the database and back. A server that
went away has closed its end, which the kernel knows.
"""

import select
from types import SimpleNamespace
from typing import Any

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base
from psycopg import Error
from psycopg.pq import TransactionStatus

_LOOK_SECONDS = 0.1  # how often a wait looks whether it was interrupted


class Connection(psycopg.Connection[Any]):
    """A connection that gives up after `DATABASE_ANSWER_SECONDS` of silence.

    The database's own limits need a database that can say so: one that is gone without a word, or a network that
    swallows, would keep the thread for ever. The connection is of no use then, because an answer may still come.
    """

    def wait(self, gen: Any, interval: float = _LOOK_SECONDS, timeout: float | None = None) -> Any:
        """Wait for the end of a command. Raises OperationalError, without an SQLSTATE, if it does not come."""
        try:
            return super().wait(gen, interval, timeout or settings.DATABASE_ANSWER_SECONDS)
        except psycopg.OperationalError as error:
            if error.sqlstate is None and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection to PostgreSQL."""

    # What Django knows of the library: it connects through it, and looks up its exceptions.
    Database = SimpleNamespace(**{**vars(psycopg), "connect": Connection.connect})  # type: ignore[assignment]

    def is_usable(self) -> bool:
        """Say whether the connection is open.

        One that is quiet is taken as it is. One with something to read was closed, or the server has something to say:
        asking it tells which.
        """
        if self.connection is None or self.errors_occurred:
            return super().is_usable()
        try:
            socket: int = self.connection.pgconn.socket
        except Error:
            return False
        poll = select.poll()
        poll.register(socket, select.POLLIN)
        return not poll.poll(0) or super().is_usable()
