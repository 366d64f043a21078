"""Sending calls with httpx: one driver that blocks and one for asyncio. All decisions are made in `retries`."""

import asyncio
import encodings.idna  # noqa: F401
import importlib.readers  # noqa: F401
import os
import platform
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpcore  # noqa: F401
import httpx

from flowplatform_client.address import Address
from flowplatform_client.calls import Answer, Call, Lost, Outcome
from flowplatform_client.endpoints import Steps
from flowplatform_client.retries import Attempt, OnWait, Pause, RetryPolicy, course
from flowplatform_client.version import __version__

T = TypeVar("T")

USER_AGENT = f"flowplatform-client/{__version__} python/{platform.python_version()}"

# httpcore and those modules of the standard library would be imported when the first connection is made. A process that
# is forked while another thread imports something can never import it: its lock is held by nobody.

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)


class _Driver:
    """What both drivers have: how they connect, and for how long they try."""

    def __init__(
        self, address: Address, *, timeout: float, retries: RetryPolicy, connections: int, on_wait: OnWait
    ) -> None:
        self.address = address
        self._timeout = timeout
        self._retries = retries
        self._connections = connections
        self._on_wait = on_wait

    def _options(self) -> dict[str, Any]:
        """Return the options of an httpx client."""
        connections = self._connections
        return {
            "headers": {"User-Agent": USER_AGENT, **self.address.headers},
            "limits": httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            # A proxy of the environment must not be asked for a server on this machine. No TLS is spoken with one that
            # is asked over http: to read the certificates of the system would take longer than all the rest.
            "trust_env": not self.address.is_local,
            "verify": self.address.url.startswith("https:") or not self.address.is_local,
        }

    def _url(self, call: Call[T]) -> str:
        """Return the whole address of a call, as errors tell it."""
        query = f"?{urlencode(call.parameters)}" if call.query else ""
        return f"{self.address.url}{call.path}{query}"

    def _request(self, call: Call[T], attempt: Attempt) -> dict[str, Any]:
        """Return what httpx sends in an attempt."""
        left = max(0.001, attempt.deadline - time.monotonic())
        return {
            "method": call.method,
            "url": self._url(call),
            "headers": call.headers,
            "content": call.content,
            "timeout": min(self._timeout, left),
        }


class SyncDriver(_Driver):
    """Sends calls and waits. Any number of threads may share one; a child after `os.fork` connects by itself."""

    def __init__(
        self, address: Address, *, timeout: float, retries: RetryPolicy, connections: int, on_wait: OnWait
    ) -> None:
        super().__init__(address, timeout=timeout, retries=retries, connections=connections, on_wait=on_wait)
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        _of_this_process.add(self)

    def send(self, call: Call[T]) -> T:
        """Return the result of a call. Raises `ApiError` and `ConnectionFailedError`."""
        steps = course(call, self._url(call), self._retries, self._on_wait)
        try:
            step = next(steps)
            while True:
                step = steps.send(self._follow(call, step))
        except StopIteration as end:
            result: T = end.value
            return result

    def run(self, steps: Steps[T]) -> T:
        """Send the calls of several steps and return what they come to."""
        try:
            call = next(steps)
            while True:
                call = steps.send(self.send(call))
        except StopIteration as end:
            result: T = end.value
            return result

    def close(self) -> None:
        """Close the kept connections. The next call would make new ones."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _follow(self, call: Call[T], step: Attempt | Pause) -> Outcome | None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        request = self._request(call, step)
        try:
            with self._connected().stream(**request) as response:
                content = b"".join(_in_time(response.iter_bytes(), step))
                return Answer(response.status_code, response.headers, content)
        except httpx.RequestError as error:
            return _lost(error)

    def _connected(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(**self._options())
            return self._client

    def forget(self) -> None:
        """Have no connections, and a lock that nobody holds."""
        self._lock = threading.Lock()
        self._client = None


class AsyncDriver(_Driver):
    """Sends calls and lets others work meanwhile. Connections belong to the event loop that made them."""

    def __init__(
        self, address: Address, *, timeout: float, retries: RetryPolicy, connections: int, on_wait: OnWait
    ) -> None:
        super().__init__(address, timeout=timeout, retries=retries, connections=connections, on_wait=on_wait)
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        _of_this_process.add(self)

    async def send(self, call: Call[T]) -> T:
        """Return the result of a call. Raises `ApiError` and `ConnectionFailedError`."""
        steps = course(call, self._url(call), self._retries, self._on_wait)
        try:
            step = next(steps)
            while True:
                step = steps.send(await self._follow(call, step))
        except StopIteration as end:
            result: T = end.value
            return result

    async def run(self, steps: Steps[T]) -> T:
        """Send the calls of several steps and return what they come to."""
        try:
            call = next(steps)
            while True:
                call = steps.send(await self.send(call))
        except StopIteration as end:
            result: T = end.value
            return result

    async def close(self) -> None:
        """Close the kept connections. The next call would make new ones."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    async def _follow(self, call: Call[T], step: Attempt | Pause) -> Outcome | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        request = self._request(call, step)
        try:
            async with self._connected().stream(**request) as response:
                content = b"".join([part async for part in _in_time_async(response.aiter_bytes(), step)])
                return Answer(response.status_code, response.headers, content)
        except httpx.RequestError as error:
            return _lost(error)

    def _connected(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = httpx.AsyncClient(**self._options()), loop
        return self._client

    def forget(self) -> None:
        """Have no connections."""
        self._client = None


def _in_time(parts: Iterator[bytes], attempt: Attempt) -> Iterator[bytes]:
    """Yield the parts of an answer until its time is over: a timeout of httpx begins anew with each of them."""
    for part in parts:
        _check(attempt)
        yield part


async def _in_time_async(parts: AsyncIterator[bytes], attempt: Attempt) -> AsyncIterator[bytes]:
    async for part in parts:
        _check(attempt)
        yield part


def _check(attempt: Attempt) -> None:
    if time.monotonic() > attempt.deadline:
        raise httpx.ReadTimeout("the answer took too long")


def _lost(error: httpx.RequestError) -> Lost:
    what = "no answer in time" if isinstance(error, httpx.TimeoutException) else "the connection broke"
    reason = str(error) or f"{what} ({type(error).__name__})"
    return Lost(reason, was_sent=not isinstance(error, _NEVER_SENT))


_of_this_process: weakref.WeakSet[SyncDriver | AsyncDriver] = weakref.WeakSet()


def _forget_connections() -> None:
    """Give every driver of a forked child connections of its own: answers to the parent are not for us.

    The old ones are dropped without a word, because their locks may be held by threads that are not there any more.
    """
    for driver in list(_of_this_process):
        driver.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_forget_connections)
