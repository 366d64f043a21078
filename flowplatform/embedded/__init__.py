"""The embedded servers: a real PostgreSQL and a real Valkey in the data directory, running as long as they are used.

    <data dir>/postgres         the database (created once, as a whole or not at all)
    <data dir>/sockets          where both servers listen; there is no TCP port
    <data dir>/logs             their logs, of this start and the one before
    <data dir>/start.lock       held while servers are started or stopped
    <data dir>/servers.lock     held, shared, by every process that uses the servers
    <data dir>/*.alive          held by the processes of one server

All of these locks are `flock`s, which the kernel drops with the process that holds them. So nothing can go stale: a
user that was killed does not count any more, a server that died is known to be dead whoever has its process id now,
and servers that a killed user left behind are simply found by the next one.
"""

from flowplatform.embedded.locations import EmbeddedError, database_url, owner_database_url, redis_url, secret_key
from flowplatform.embedded.place import Report
from flowplatform.embedded.usage import Servers, servers, to_stderr

__all__ = [
    "EmbeddedError",
    "Report",
    "Servers",
    "database_url",
    "owner_database_url",
    "redis_url",
    "secret_key",
    "servers",
    "to_stderr",
]
