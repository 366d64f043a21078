"""What `up` runs, and where: a live process that serves everything on one port, or web processes and live on two."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from flowplatform import env
from flowplatform.processes import Program

HOST = "127.0.0.1"
# What may be connected beside the servers: the worker, and commands and replays of people.
_OTHER_CONNECTIONS = 10
_PYTHON = [sys.executable, "-m"]


@dataclass(frozen=True)
class Topology:
    """The ports, which are the same without web processes of their own (`None`): then live serves HTTP too."""

    port: int
    sockets_port: int
    web_processes: int | None = None

    @property
    def url(self) -> str:
        """Where pages and API are."""
        return f"http://{HOST}:{self.port}"

    @property
    def sockets_url(self) -> str:
        """Where the sockets are."""
        return f"ws://{HOST}:{self.sockets_port}"

    @property
    def http_ports(self) -> Sequence[int]:
        """Where HTTP is answered: live does it on its own port as well."""
        return sorted({self.port, self.sockets_port})

    @property
    def database_connections(self) -> int:
        """How many connections to PostgreSQL all processes together may open."""
        live = settings.HTTP_THREADS + settings.SOCKET_THREADS
        return live + (self.web_processes or 0) * settings.WEB_THREADS + _OTHER_CONNECTIONS

    def programs(self, home: Path, demo_token: str | None) -> Iterator[Program]:
        """Yield what runs beside the servers. The demo's token is in its environment, which other users cannot read."""
        celery = [*_PYTHON, "celery", "-A", "flowplatform.celery"]
        run = home / "run"
        run.mkdir(mode=0o700, exist_ok=True)
        if self.web_processes is not None:
            yield self._web(self.web_processes)
        yield self._live()
        yield Program(
            "worker",
            [*celery, "worker", "--pool", "threads", "--concurrency", "2", "--without-gossip", "--without-mingle",
             "--loglevel", "INFO"],
        )  # fmt: skip
        yield Program("beat", [*celery, "beat", "--schedule", str(run / "celerybeat-schedule")])
        if demo_token is not None:
            command = [*_PYTHON, "flowplatform.demo", "--url", self.url, "--reports", str(home / "reports")]
            yield Program("demo", command, {"FLOWPLATFORM_TOKEN": demo_token})

    def _web(self, processes: int) -> Program:
        listen = ["--bind", HOST, "--port", str(self.port)]
        command = [*_PYTHON, "flowplatform.web", *listen, "--processes", str(processes)]
        return Program("web", command, {"SOCKETS_PORT": str(self.sockets_port)})

    def _live(self) -> Program:
        command = [*_PYTHON, "flowplatform.live", "--bind", HOST, "--port", str(self.sockets_port)]
        if self.sockets_port == self.port:
            return Program("live", command)
        # The pages come from another port, so to a socket their origin is a foreign one.
        trusted = [*env.CSRF_TRUSTED_ORIGINS, *_origins(self.port)]
        return Program("live", command, {"CSRF_TRUSTED_ORIGINS": ",".join(trusted)})


def _origins(port: int) -> Iterator[str]:
    """Yield the origins of our pages on a port, as browsers write them: port 80 is left out. Patterns are no names."""
    for name in settings.ALLOWED_HOSTS:
        if "*" not in name and not name.startswith("."):
            yield f"http://{name}" if port == 80 else f"http://{name}:{port}"
