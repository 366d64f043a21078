"""`python -m flowplatform.web`: the web role, Django's WSGI handler behind granian (`flowplatform/rsgi.py`).

Few threads: a request of ours is Python more than it is waiting, and Python runs on one core per process. Each keeps a
database connection.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from django.conf import settings
from granian.constants import HTTPModes, Interfaces, RuntimeModes
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import MPServer  # what `Granian` is, by the name that has a type

from flowplatform import checks, draining, env, processes, role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from flowplatform.rsgi import WebApplication

# A connection that says nothing for so long is closed. Longer than a proxy keeps an idle one (30 s in
# deploy/nginx.conf): were it shorter, a request could be sent into a connection that is just being closed, and a POST
# is not repeated. A minute is the most that granian takes.
IDLE_SECONDS = 60
KILL_SECONDS = 8  # for requests at shutdown; a container and `up` give us ten


def behind_proxy() -> "WSGIApplication":
    """Return the application as it is behind a proxy: who calls, and by http or https, is what the proxy says.

    Who calls is `X-Real-IP`, which the proxy sets to the address of its peer. `X-Forwarded-For` begins with whatever
    the client sent.
    """
    from flowplatform.wsgi import application

    def serve(environ: "WSGIEnvironment", start_response: "StartResponse") -> "Iterable[bytes]":
        if address := environ.get("HTTP_X_REAL_IP"):
            environ["REMOTE_ADDR"] = address
        if (scheme := environ.get("HTTP_X_FORWARDED_PROTO")) in ("http", "https"):
            environ["wsgi.url_scheme"] = scheme
        return application(environ, start_response)

    return serve


def direct_target() -> "WebApplication":
    """Return what granian runs where clients come by themselves."""
    from flowplatform.wsgi import application

    return _served(application)


def proxied_target() -> "WebApplication":
    """Return what granian runs behind a proxy."""
    return _served(behind_proxy())


def _served(application: "WSGIApplication") -> "WebApplication":
    from flowplatform.rsgi import WebApplication

    return WebApplication(application, settings.WEB_THREADS)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    options = argparse.ArgumentParser(prog="python -m flowplatform.web", description=__doc__)
    options.add_argument("--bind", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    options.add_argument("--port", type=int, default=8000, help="(default: %(default)s)")
    options.add_argument(
        "--processes", type=int, default=env.WEB_CONCURRENCY, help="(default: WEB_CONCURRENCY or 2; here %(default)s)"
    )
    options.add_argument(
        "--behind-proxy",
        action="store_true",
        help="believe X-Real-IP and X-Forwarded-Proto, whoever sends them: only where nobody but the proxy can",
    )
    return options


class Server(MPServer):
    """granian, which gives connections up before it closes them."""

    def shutdown(self, exit_code: int = 0) -> None:
        """Drain, then end the processes; requests that are being answered get a few seconds."""
        draining.begin()
        time.sleep(draining.DRAIN_SECONDS)
        super().shutdown(exit_code)  # type: ignore[no-untyped-call]


def server_of(given: argparse.Namespace) -> Server:
    """Return the server as the command line asks for it."""
    return Server(
        target=f"flowplatform.web:{'proxied' if given.behind_proxy else 'direct'}_target",
        factory=True,
        address=given.bind,
        port=given.port,
        interface=Interfaces.RSGI,
        workers=given.processes,
        runtime_mode=RuntimeModes.mt,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=IDLE_SECONDS * 1000),
        websockets=False,
        log_level=LogLevels.warning,
        log_dictconfig=_logging(),
        respawn_failed_workers=True,
        workers_kill_timeout=KILL_SECONDS,
    )


def _logging() -> dict[str, Any]:
    """Return the platform's logging, by which granian's own lines go too. It logs no requests: the middleware does."""
    ours: dict[str, Any] = settings.LOGGING
    return {**ours, "loggers": {**ours["loggers"], "_granian": {}, "granian.access": {}}}


def main(arguments: list[str]) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that are being answered get a few seconds."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")
    role.claim("web")
    given = parser().parse_args(arguments)
    checks.refuse_unsafe()  # here too: each process would refuse by itself, and be replaced
    # The processes are forked: without us they would go on and hold the port.
    os.register_at_fork(after_in_child=processes.end_with_parent)
    with _figures():
        server_of(given).serve()


@contextmanager
def _figures() -> Iterator[None]:
    """Have a folder in which the processes count together (`flowplatform.metrics.files`), unless one is given."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        yield
        return
    with TemporaryDirectory(prefix="flowplatform-metrics-") as folder:
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
        yield


if __name__ == "__main__":
    main(sys.argv[1:])
