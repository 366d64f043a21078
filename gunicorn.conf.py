"""How gunicorn serves the web role: `gunicorn flowplatform.wsgi:application` in this folder reads this file by itself.

Where it listens, and whose forwarded headers it believes, depends on what stands in front: the command line says it.
"""

import os
from pathlib import Path

# Two processes of eight threads: Python runs on one core per process, and a request mostly waits for PostgreSQL.
# Each process has its own connection pool, with room for all its threads (HTTP_THREADS in the settings).
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
threads = 8

# Not preloaded: a pool of connections does not survive the fork.
preload_app = False

timeout = 30  # seconds without a sign of life until a process is replaced
graceful_timeout = 20  # seconds that running requests get at shutdown
# Longer than a proxy keeps an idle connection (60 s in deploy/nginx.conf): were it shorter, a request could be sent
# into a connection that is just being closed, and a POST is not repeated.
keepalive = 75

# The sign of life is a file; on a disk that is busy it comes late.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  (gunicorn makes it private)
control_socket_disable = True  # it would need a writable home directory

# Headers that would move the application to another path: nobody in front of us sends them.
forwarder_headers = ""
