"""The connection that a thread keeps is looked at before each request without asking the database.

With `CONN_HEALTH_CHECKS` Django sends a query for every request: one more way to the database and back. A server that
went away has closed its end, which the kernel knows.
"""

import select

from django.db.backends.postgresql import base
from psycopg import Error


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection to PostgreSQL."""

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
