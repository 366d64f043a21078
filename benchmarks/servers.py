"""The servers that can be measured: how each is started, and what it needs beside the project's own packages."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flowplatform.processes import Program
from flowplatform.topology import HOST, Topology

WEB_PROCESSES = 2
DEFAULT = ("daphne", "web")
_THREADS = "2"  # of a process, as WEB_THREADS in the settings
_PYTHON = [sys.executable, "-m"]


@dataclass(frozen=True)
class Server:
    """A way to serve the platform over HTTP."""

    name: str
    title: str
    program: Callable[[Path, int], Program]  # from the data directory and the port that it has to listen on
    scaled: bool = True  # has several processes: the targets are for these
    packages: Sequence[str] = ()  # installed for the run, in a folder of their own


def _of_up(name: str, web_processes: int | None = None) -> Callable[[Path, int], Program]:
    """Take a program as `manage.py up` starts it."""

    def program(home: Path, port: int) -> Program:
        sockets_port = port if web_processes is None else port + 1
        topology = Topology(port=port, sockets_port=sockets_port, web_processes=web_processes)
        return next(each for each in topology.programs(home, None) if each.name == name)

    return program


def _command(*parts: str) -> Callable[[Path, int], Program]:
    """Take a module and its arguments, in which `{port}` is the port."""
    return lambda home, port: Program("candidate", [*_PYTHON, *(part.replace("{port}", str(port)) for part in parts)])


def background(home: Path) -> list[Program]:
    """Return what runs beside every server: the Celery worker that relays events, and beat."""
    return [_of_up(name)(home, 0) for name in ("worker", "beat")]


_ALL = (
    Server("daphne", "one Daphne", _of_up("live"), scaled=False),
    Server("web-1", "web role, 1 process", _of_up("web", 1), scaled=False),
    Server("web", f"web role, {WEB_PROCESSES} processes", _of_up("web", WEB_PROCESSES)),
    # Candidates for the web role, measured with `--servers web gthread …`.
    Server(
        "gthread",
        f"gunicorn gthread, {WEB_PROCESSES} processes",
        _command("gunicorn", "flowplatform.wsgi:application", "--bind", f"{HOST}:{{port}}", "--worker-class", "gthread",
                 "--workers", str(WEB_PROCESSES), "--threads", _THREADS),
        packages=["gunicorn"],
    ),
    Server(
        "uvicorn",
        f"uvicorn, {WEB_PROCESSES} processes",
        _command("uvicorn", "flowplatform.asgi:application", "--host", HOST, "--port", "{port}", "--lifespan", "off",
                 "--workers", str(WEB_PROCESSES), "--loop", "uvloop", "--http", "httptools", "--no-access-log",
                 "--log-level", "warning"),
        packages=["uvicorn", "uvloop", "httptools"],
    ),
    Server(
        "daphnes",
        f"{WEB_PROCESSES} Daphnes on one socket",
        _command("benchmarks.daphnes", "{port}", str(WEB_PROCESSES)),
    ),
)  # fmt: skip
SERVERS = {server.name: server for server in _ALL}
