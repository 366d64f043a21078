"""A small TCP proxy in front of a dependency, that can pass, refuse, swallow, delay, cut and forget.

pass     bytes go both ways
refuse   nobody listens, and what was connected is cut: the server is gone
swallow  connections are accepted and nothing is answered: the network or the server hangs
delay    every piece of data waits for so many seconds, each way
cut      what is connected is cut, once; then bytes pass
forget   requests reach the server, and the connection is cut instead of its answer: was it done or not?
halve    the same, but the first half of what would be answered gets through

It runs as a process of its own (`python -m tests.faults.proxy`), so that what it carries does not wait for the test's
interpreter. The first line of its input has the routes, every further line is a command; each is confirmed by a line.
"""

import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Literal

from tests.stack import ROOT

Mode = Literal["pass", "refuse", "swallow", "delay", "cut", "forget", "halve"]
Upstream = str | int  # the path of a Unix socket, or a port of this machine

_PIECE = 64 * 1024


class Route:
    """One port of ours and the server behind it."""

    def __init__(self, port: int, upstream: Upstream) -> None:
        self._port = port
        self._upstream = upstream
        self._mode: Mode = "pass"
        self._delay = 0.0
        self._listener: asyncio.Server | None = None
        self._connections: set[Connection] = set()

    async def turn(self, mode: Mode, seconds: float = 0.0) -> None:
        """Change what happens from now on."""
        was_swallowing = self._mode == "swallow"
        self._mode, self._delay = ("pass" if mode == "cut" else mode), seconds
        if mode in ("refuse", "cut") or was_swallowing:  # a stream that lacks a piece is of no use to anybody
            for connection in list(self._connections):
                connection.cut()
            await asyncio.sleep(0)  # the loop's next turn closes them
        if mode == "refuse" and self._listener:
            self._listener.close()
            self._listener = None
        elif mode != "refuse" and self._listener is None:
            self._listener = await asyncio.start_server(self._accept, "127.0.0.1", self._port, backlog=1024)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, writer)
        self._connections.add(connection)
        try:
            await connection.run(reader, self._upstream)
        except OSError:
            pass
        finally:
            connection.cut()
            self._connections.discard(connection)

    async def passed(self, piece: bytes, *, answer: bool) -> bytes:
        """Return what may pass of a piece of data: less than it ends the connection, unless it is swallowed."""
        if self._mode == "delay":
            await asyncio.sleep(self._delay)
        if answer and self._mode in ("forget", "halve"):
            return piece[: len(piece) // 2] if self._mode == "halve" else b""
        return piece

    @property
    def swallows(self) -> bool:
        """Whether nothing gets through, and nobody is told."""
        return self._mode == "swallow"


class Connection:
    """A client, and the server behind it."""

    def __init__(self, route: Route, client: asyncio.StreamWriter) -> None:
        self._route = route
        self._writers = [client]

    async def run(self, reader: asyncio.StreamReader, upstream: Upstream) -> None:
        """Carry bytes both ways until one side ends."""
        server_reader, server = await _connected(upstream)
        self._writers.append(server)
        ways = [
            asyncio.create_task(self._carry(reader, server, answer=False)),
            asyncio.create_task(self._carry(server_reader, self._writers[0], answer=True)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _carry(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, *, answer: bool) -> None:
        while piece := await source.read(_PIECE):
            passed = await self._route.passed(piece, answer=answer)
            if self._route.swallows:
                continue
            target.write(passed)
            await target.drain()
            if passed != piece:
                return

    def cut(self) -> None:
        """End both sides at once."""
        for writer in self._writers:
            writer.transport.abort()


async def _connected(upstream: Upstream) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if isinstance(upstream, int):
        return await asyncio.open_connection("127.0.0.1", upstream)
    return await asyncio.open_unix_connection(upstream)


async def _serve(routes: Mapping[str, tuple[int, Upstream]]) -> None:
    served = {name: Route(*where) for name, where in routes.items()}
    for route in served.values():
        await route.turn("pass")
    _confirm()
    while line := await asyncio.to_thread(sys.stdin.readline):
        command = json.loads(line)
        await served[command["route"]].turn(command["mode"], command["seconds"])
        _confirm()


def _confirm() -> None:
    print("done", flush=True)


class Proxy:
    """The process of the proxy, as the tests hold it."""

    def __init__(self, routes: Mapping[str, tuple[int, Upstream]]) -> None:
        """Start it. `routes` has a port and the server behind it for every name."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.proxy"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._tell(routes)

    def turn(self, route: str, mode: Mode, *, seconds: float = 0.0) -> None:
        """Have a route behave differently from now on; returns when it does."""
        self._tell({"route": route, "mode": mode, "seconds": seconds})

    def stop(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _tell(self, what: Any) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "done\n", "the proxy has ended"


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(json.loads(sys.stdin.readline())))
