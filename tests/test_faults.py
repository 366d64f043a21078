"""What is answered is never lost: every fault of `make faults`, at a small size, and what makes the faults."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from tests.faults import nginx, stage
from tests.faults.catalogue import FAULTS
from tests.faults.client import HOST
from tests.faults.proxy import Mode, Proxy
from tests.faults.stage import Stage
from tests.faults.trial import SMALL, Fault, tried
from tests.stack import free_port


@pytest.fixture(scope="module")
def running() -> Iterator[Stage]:
    with stage.stage() as running:
        yield running


@pytest.mark.parametrize("fault", [pytest.param(fault, id=fault.name) for fault in FAULTS])
def test_nothing_is_lost(running: Stage, fault: Fault) -> None:
    if fault.needs_nginx and not running.has_nginx:
        pytest.skip(nginx.MISSING)
    result = tried(running, fault, SMALL)
    assert not result.problems, "\n".join([*result.problems, str(result), *map(str, running.last_words())])


# --- The instruments ------------------------------------------------------------------------------------------------


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[tuple[Proxy, int]]:
    """A proxy before a server that repeats what it hears."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "echo"))
        server.listen()
        Thread(target=_echo, args=(server,), daemon=True).start()
        port = free_port()
        proxy = Proxy({"echo": (port, str(tmp_path / "echo"))})
        yield proxy, port
        proxy.stop()


def _echo(server: socket.socket) -> None:
    with suppress(OSError):  # the test is over
        while True:
            connection, _ = server.accept()
            Thread(target=_repeat, args=(connection,), daemon=True).start()


def _repeat(connection: socket.socket) -> None:
    with suppress(OSError):  # cut
        while piece := connection.recv(9):
            connection.sendall(piece)


def said(port: int, connection: socket.socket | None = None) -> str:
    """Say something to the server behind the proxy and return what becomes of it."""
    try:
        connection = connection or socket.create_connection((HOST, port))
        connection.settimeout(0.3)
        connection.sendall(b"hello")
        return connection.recv(9).decode() or "cut"
    except TimeoutError:
        return "silence"
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return "cut"


@pytest.mark.parametrize(
    ("mode", "old", "new"),
    [
        ("pass", "hello", "hello"),
        ("refuse", "cut", "refused"),
        ("swallow", "silence", "silence"),
        ("cut", "cut", "hello"),
        ("forget", "cut", "cut"),
        ("halve", "he", "he"),
        ("delay", "silence", "silence"),
    ],
)
def test_the_proxy_does_what_its_mode_says(proxied: tuple[Proxy, int], mode: Mode, old: str, new: str) -> None:
    proxy, port = proxied
    with socket.create_connection((HOST, port)) as kept:
        assert said(port, kept) == "hello"
        proxy.turn("echo", mode, seconds=1)
        assert (said(port, kept), said(port)) == (old, new)
        proxy.turn("echo", "pass")
        assert said(port) == "hello"


def test_the_shipped_configuration_of_nginx_keeps_everything_but_its_addresses(tmp_path: Path) -> None:
    text = nginx.configuration(folder=tmp_path, port=1, web=[11, 12], live=[21])
    assert [line.strip() for line in text.splitlines() if "server 127" in line] == [
        "server 127.0.0.1:11 max_fails=0;",
        "server 127.0.0.1:12 max_fails=0;",
        "server 127.0.0.1:21 max_fails=0;",
    ]
    kept = [line for line in nginx.SHIPPED.read_text().splitlines() if line.strip().startswith(("proxy_", "location"))]
    assert all(line in text.splitlines() for line in kept if "/tmp" not in line)
