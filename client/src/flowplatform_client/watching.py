"""Watching a flow: iterators over its events that connect again by themselves. What frames mean is in `following`."""

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Any

import websockets.asyncio.client
import websockets.sync.client
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from flowplatform_client.address import Address
from flowplatform_client.following import SILENCE_SECONDS, Following, Item, MissedError
from flowplatform_client.http import USER_AGENT

CLOSE_SECONDS = 1.0  # how long the server may take to say goodbye
MESSAGE_BYTES = 64 * 1024 * 1024  # an event can hold an input, an output and an error of 1 MiB each, as JSON

# The library would log every header, and with them the token, where everything is logged.
_log = logging.getLogger("flowplatform_client.websockets")
_log.setLevel(logging.INFO)

# asyncio's own is another class before Python 3.11.
_LOST = (OSError, EOFError, TimeoutError, asyncio.TimeoutError, WebSocketException, MissedError)


class Watch(Iterator[Item]):
    """The events of a flow as they happen, each once and in order; it goes on over every loss of the connection.

    A `Reset` says that what came before is not told: fetch what you keep, then apply the events that follow. It is the
    first item where no `since` was given. `epoch` and `offset` of an item are where another watch would go on after it.

    Raises `UnauthenticatedError` or `NotFoundError` where token or flow are not known, or not any more. For one thread;
    any other may `close()` it, which ends the iteration.
    """

    def __init__(self, address: Address, following: Following) -> None:
        self._options = _options(address)
        self._following = following
        self._items: deque[Item] = deque()
        self._closed = threading.Event()
        self._connection = ExitStack()
        self._socket: websockets.sync.client.ClientConnection | None = None

    def __iter__(self) -> "Watch":
        return self

    def __next__(self) -> Item:
        while not self._closed.is_set():
            if self._items:
                return self._items.popleft()
            self._items.extend(self._more())
        self._disconnect()
        raise StopIteration

    def close(self) -> None:
        """End the iteration, from whichever thread. One that is just connecting ends when that is done or failed."""
        self._closed.set()
        if socket := self._socket:
            socket.close()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._disconnect()

    def _more(self) -> Sequence[Item]:
        """Return what the next frame tells; nothing after a loss, and the pause that it asks for."""
        try:
            return self._following.take(self._connected().recv(SILENCE_SECONDS))
        except _LOST as error:
            self._disconnect()
            if not self._closed.is_set():
                self._closed.wait(_pause(self._following, error))
            return ()

    def _connected(self) -> websockets.sync.client.ClientConnection:
        if self._socket is None:
            connecting = websockets.sync.client.connect(self._following.address, **self._options)
            self._socket = self._connection.enter_context(connecting)
            if self._closed.is_set():  # meanwhile
                self._socket.close()
        return self._socket

    def _disconnect(self) -> None:
        self._socket = None
        self._connection.close()


class AsyncWatch(AsyncIterator[Item]):
    """The events of a flow as they happen, for asyncio. Everything behaves as in `Watch`."""

    def __init__(self, address: Address, following: Following) -> None:
        self._options = _options(address)
        self._following = following
        self._items: deque[Item] = deque()
        self._closed = asyncio.Event()
        self._connection = AsyncExitStack()
        self._socket: websockets.asyncio.client.ClientConnection | None = None

    def __aiter__(self) -> "AsyncWatch":
        return self

    async def __anext__(self) -> Item:
        while not self._closed.is_set():
            if self._items:
                return self._items.popleft()
            self._items.extend(await self._more())
        await self._disconnect()
        raise StopAsyncIteration

    async def close(self) -> None:
        """End the iteration, from whichever task."""
        self._closed.set()
        if socket := self._socket:
            await socket.close()

    async def __aenter__(self) -> "AsyncWatch":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
        await self._disconnect()

    async def _more(self) -> Sequence[Item]:
        """Return what the next frame tells; nothing after a loss, and the pause that it asks for."""
        try:
            socket = await self._connected()
            return self._following.take(await asyncio.wait_for(socket.recv(), SILENCE_SECONDS))
        except _LOST as error:
            await self._disconnect()
            if not self._closed.is_set():
                await self._wait(_pause(self._following, error))
            return ()

    async def _wait(self, seconds: float) -> None:
        """Wait, but not beyond the end of the iteration."""
        waiting = asyncio.ensure_future(self._closed.wait())
        await asyncio.wait([waiting], timeout=seconds)
        waiting.cancel()

    async def _connected(self) -> websockets.asyncio.client.ClientConnection:
        if self._socket is None:
            connecting = websockets.asyncio.client.connect(self._following.address, **self._options)
            self._socket = await self._connection.enter_async_context(connecting)
            if self._closed.is_set():  # meanwhile
                await self._socket.close()
        return self._socket

    async def _disconnect(self) -> None:
        self._socket = None
        await self._connection.aclose()


def _options(address: Address) -> dict[str, Any]:
    """Return how to connect. Our pings would add nothing: the server is heard of every 15 s, and pings by itself."""
    return {
        "additional_headers": address.headers,
        "logger": _log,
        "user_agent_header": USER_AGENT,
        "proxy": None if address.is_local else True,
        "ping_interval": None,
        "close_timeout": CLOSE_SECONDS,
        "max_size": MESSAGE_BYTES,
    }


def _pause(following: Following, error: Exception) -> float:
    """Return how long to wait after a loss; raise what coming back cannot mend."""
    match error:
        case InvalidStatus():
            answer = error.response
            return following.refused(answer.status_code, dict(answer.headers.raw_items()), bytes(answer.body or b""))
        case ConnectionClosed():
            return following.closed(error.rcvd.code if error.rcvd else None, str(error))
    return following.lost(str(error) or f"nothing was heard of it ({type(error).__name__})")
