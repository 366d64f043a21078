"""A driver with one connection, on which the next request is made while the server is at this one.

It takes a fraction of the processor time of httpx, which does everything that a request might need. Certificates are
those of httpx; where a proxy of the environment has to be asked, httpx does all of it.
"""

import http.client
import selectors
import time
import urllib.request
from collections.abc import Callable
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import httpx

from flowplatform_client.address import Address
from flowplatform_client.calls import Answer, Call, Lost, Outcome
from flowplatform_client.errors import ConnectionFailedError
from flowplatform_client.http import USER_AGENT, SyncDriver
from flowplatform_client.retries import TOTAL_SECONDS, RetryPolicy

T = TypeVar("T")

_PIECE = 64 * 1024
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Driver(Protocol):
    """What sends the calls of a reporter, each once."""

    def send(self, call: Call[T], *, meanwhile: Callable[[], None] | None = None) -> T:
        """Return the result of a call; `meanwhile` may be run while it is awaited.

        Raises `ApiError` and `ConnectionFailedError`.
        """

    def close(self) -> None:
        """Close the connection. The next call would make another one."""


def driver_to(address: Address, *, timeout: float) -> Driver:
    """Return the driver to a server; `timeout` is in seconds, for each silence of it."""
    return (
        ThroughProxy(address, timeout=timeout)
        if _is_behind_a_proxy(address)
        else OneConnection(address, timeout=timeout)
    )


class ThroughProxy:
    """Sends calls with httpx."""

    def __init__(self, address: Address, *, timeout: float) -> None:
        self._driver = SyncDriver(
            address, timeout=timeout, retries=RetryPolicy.never(), connections=1, on_wait=lambda reason: None
        )

    def send(self, call: Call[T], *, meanwhile: Callable[[], None] | None = None) -> T:
        """Return the result of a call; nothing is done meanwhile."""
        return self._driver.send(call)

    def close(self) -> None:
        """Close the connection."""
        self._driver.close()


class OneConnection:
    """Sends calls over a connection of its own, which is kept. For one thread."""

    def __init__(self, address: Address, *, timeout: float) -> None:
        self._url = address.url
        self._prefix = quote(urlsplit(address.url).path, safe="/%")
        self._headers = {"User-Agent": USER_AGENT, "Accept": "*/*", **address.headers}
        self._timeout = timeout
        self._connection: http.client.HTTPConnection | None = None

    def send(self, call: Call[T], *, meanwhile: Callable[[], None] | None = None) -> T:
        """Return the result of a call; `meanwhile` runs when it is sent, and may not take long."""
        query = f"?{urlencode(call.parameters)}" if call.query else ""
        url = f"{self._url}{call.path}{query}"
        call.check_size(url)
        outcome = self._attempt(call, f"{self._prefix}{call.path}{query}", meanwhile)
        if isinstance(outcome, Answer):
            return call.result(outcome, url)
        raise ConnectionFailedError(
            f"{call.method} {url} got no answer: {outcome.reason}", may_have_arrived=outcome.was_sent
        )

    def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _attempt(self, call: Call[Any], target: str, meanwhile: Callable[[], None] | None) -> Outcome:
        deadline = time.monotonic() + TOTAL_SECONDS
        was_sent = False
        try:
            connection = self._connected()
            was_sent = True
            connection.request(call.method, target, call.content, {**self._headers, **call.headers})
            if meanwhile is not None:
                meanwhile()
            response = connection.getresponse()
            content = _content(response, deadline)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            self.close()
            return Lost(str(error) or f"no answer ({type(error).__name__})", was_sent=was_sent)
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, headers, content)

    def _connected(self) -> http.client.HTTPConnection:
        """Return the connection, another one if the server has closed it meanwhile."""
        connection = self._connection
        if connection is not None and (connection.sock is None or _is_readable(connection)):
            self.close()
        if self._connection is None:
            self._connection = self._new()
            self._connection.connect()
        return self._connection

    def _new(self) -> http.client.HTTPConnection:
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        if parts.scheme == "https":  # without a port http.client would take the end of an IPv6 address for one
            port = parts.port or http.client.HTTPS_PORT
            return _SecureConnection(host, port, timeout=self._timeout, context=httpx.create_ssl_context())
        return _Connection(host, parts.port or http.client.HTTP_PORT, timeout=self._timeout)


class _AtOnce:
    """Sends head and body of a request by one call: the server would be woken by the head, and wait for the body."""

    _held: list[bytes] | None = None

    def endheaders(self, *args: Any, **options: Any) -> None:
        held: list[bytes] = []
        self._held = held
        try:
            super().endheaders(*args, **options)  # type: ignore[misc]
        finally:
            self._held = None
        super().send(b"".join(held))  # type: ignore[misc]

    def send(self, data: Any) -> None:
        if self._held is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._held.append(data)


class _Connection(_AtOnce, http.client.HTTPConnection):
    """A connection over plain http."""


class _SecureConnection(_AtOnce, http.client.HTTPSConnection):
    """A connection over https."""


def _is_readable(connection: http.client.HTTPConnection) -> bool:
    """Say whether something came that nobody has asked for: the end, most of the time."""
    selector = _Selector()  # of the system's ways one that takes no descriptor of its own
    selector.register(connection.sock, selectors.EVENT_READ)
    return bool(selector.select(0))


def _content(response: http.client.HTTPResponse, deadline: float) -> bytes:
    """Return the body. Raises `http.client.IncompleteRead` if it is cut, `TimeoutError` if it never ends."""
    pieces = []
    while piece := response.read1(_PIECE):
        pieces.append(piece)
        if time.monotonic() > deadline:
            raise TimeoutError("the answer took too long")
    content = b"".join(pieces)
    if response.length:
        raise http.client.IncompleteRead(content, response.length)
    response.close()  # not every Python notices that `read1` was the last one, and the connection waits for it
    return content


def _is_behind_a_proxy(address: Address) -> bool:
    if address.is_local:
        return False
    parts = urlsplit(address.url)
    proxies = urllib.request.getproxies()
    return bool(proxies.get(parts.scheme) or proxies.get("all")) and not urllib.request.proxy_bypass(
        parts.hostname or ""
    )
