"""The connection to PostgreSQL: it says whose rows to show, is looked at without a query, and has an end of patience.

**Whose rows.** `flowplatform.tenancy` knows; the policies of the tables ask a setting of the transaction. It is set on
the same way to the database as the first statement of a transaction (a pipeline, which takes BEGIN along, too), and
again if it changed since. It ends with the transaction, so a connection that is kept never remembers a tenant.

**Whether it is there.** With `CONN_HEALTH_CHECKS` Django sends a query for every request: one more way to the database
and back. A server that went away has closed its end, which the kernel knows.

**Whether it answers.** `Connection` says.
"""

import select
from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

import psycopg
from django.conf import settings
from django.db.backends.postgresql import base
from psycopg.pq import TransactionStatus

from flowplatform import role, tenancy
from flowplatform.postgresql.application_role import refuse_powerful_role
from flowplatform.postgresql.outcome import committing

if TYPE_CHECKING:
    ServerBindingCursor = psycopg.Cursor[Any]
else:
    from django.db.backends.postgresql.base import ServerBindingCursor

T = TypeVar("T")

_TELL = f"SELECT set_config('{tenancy.SETTING}', %s, true)"
_LOOK_SECONDS = 0.1  # how often a wait looks whether it was interrupted
_UNKNOWN = "?"  # what a transaction was told before a part of it was undone


class Connection(psycopg.Connection[Any]):
    """A connection that gives up after `DATABASE_ANSWER_SECONDS` of silence.

    The database's own limits need a database that can say so: one that is gone without a word, or a network that
    swallows, would keep the thread for ever. The connection is of no use then, because an answer may still come.
    """

    told = tenancy.NOBODY  # by what its transaction said last

    def wait(self, gen: Any, interval: float = _LOOK_SECONDS, timeout: float | None = None) -> Any:
        """Wait for the end of a command. Raises OperationalError, without an SQLSTATE, if it does not come."""
        try:
            return super().wait(gen, interval, timeout or settings.DATABASE_ANSWER_SECONDS)
        except psycopg.OperationalError as error:
            if error.sqlstate is None and self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.pgconn.finish()
            raise


class Cursor(ServerBindingCursor):
    """A cursor whose statements show the rows that the code may see."""

    def execute(self, query: Any, params: Any = None, **kwargs: Any) -> Self:
        return self._run(partial(super().execute, query, params, **kwargs), may_be_several=params is None)

    def executemany(self, query: Any, params_seq: Iterable[Any], **kwargs: Any) -> None:
        self._run(partial(super().executemany, query, params_seq, **kwargs))

    def _run(self, statement: Callable[[], T], *, may_be_several: bool = False) -> T:
        """Run a statement, after telling the database what to show where it has not heard of it."""
        connection = cast(Connection, self.connection)
        wanted = tenancy.shown()
        status = connection.pgconn.transaction_status
        if status == TransactionStatus.IDLE:  # a transaction that has not begun
            connection.told = tenancy.NOBODY
        if wanted == connection.told or status == TransactionStatus.INERROR:
            return statement()
        connection.told = wanted
        tell = partial(psycopg.Cursor(connection).execute, _TELL, [wanted])
        if may_be_several and not connection.autocommit:  # of a migration: a pipeline takes them one by one
            tell()
            return statement()
        with connection.pipeline():
            tell()
            return statement()


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection to PostgreSQL."""

    # What Django knows of the library: it connects through it, and looks up its exceptions.
    Database = SimpleNamespace(**{**vars(psycopg), "connect": Connection.connect})  # type: ignore[assignment]

    _is_bound: ClassVar[bool] = False  # by row-level security; every connection of a server has the same role
    backend_pid = 0  # of the server's process; a connection that broke does not remember it

    def get_connection_params(self) -> dict[str, Any]:
        return {**super().get_connection_params(), "cursor_factory": Cursor}

    def init_connection_state(self) -> None:
        super().init_connection_state()
        if role.serves() and not self._is_bound:
            refuse_powerful_role(self.connection)
            DatabaseWrapper._is_bound = True

    def _savepoint_rollback(self, sid: str) -> None:
        super()._savepoint_rollback(sid)  # type: ignore[misc]
        if self.connection is not None:
            self.connection.told = _UNKNOWN

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        self.backend_pid = connection.info.backend_pid
        return connection

    def _commit(self) -> None:
        with committing(self):
            super()._commit()  # type: ignore[misc]

    def is_usable(self) -> bool:
        """Say whether the connection is open.

        One that is quiet is taken as it is. One with something to read was closed, or the server has something to say:
        asking it tells which.
        """
        if self.connection is None or self.errors_occurred:
            return super().is_usable()
        try:
            socket: int = self.connection.pgconn.socket
        except psycopg.Error:
            return False
        poll = select.poll()
        poll.register(socket, select.POLLIN)
        return not poll.poll(0) or super().is_usable()
