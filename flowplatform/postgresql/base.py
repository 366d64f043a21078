"""The connections of the pool are looked at before use without asking the database.

With `CONN_HEALTH_CHECKS` Django has the pool send an empty query for every request that needs a connection: one more
way to the database and back. A server that went away has closed its end, which the kernel knows.
"""

import select
from typing import Any

from django.db.backends.postgresql import base
from psycopg import Connection
from psycopg_pool import ConnectionPool


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection to PostgreSQL."""

    @property
    def pool(self) -> Any:
        """The pool of this process, where the settings ask for one."""
        pool = super().pool
        if pool is not None and pool._check is not None:
            pool._check = check_connection  # Django has no setting for it
        return pool


def check_connection(connection: Connection[Any]) -> None:
    """Raise `OperationalError` for a connection that its server has closed.

    One that is quiet is taken as it is. One with something to read was closed, or the server has something to say:
    asking it tells which.
    """
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if poll.poll(0):
        ConnectionPool.check_connection(connection)
