"""Bytes to a server and what comes back, without an HTTP library between: none would send what is sent here."""

import select
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tests.contract import check_form

Chunks = Iterable[bytes | float]  # a number is a pause in seconds
HOST = "127.0.0.1"
_READ = 1 << 16


@dataclass(frozen=True)
class Received:
    """What came back on a connection."""

    data: bytes
    closed: bool  # by the server
    sent: int  # bytes that left before the answer
    seconds: float


def exchange(
    port: int,
    chunks: Chunks,
    *,
    seconds: float,
    is_done: Callable[[bytes], bool],
    linger: float = 0.0,
    half_close: bool = False,
) -> Received:
    """Send until an answer comes, and read it.

    A client that is refused stops sending. `linger` looks that much longer whether more comes than was due; with
    `half_close` nothing more is sent than the chunks, and the server is told so.
    """
    with socket.create_connection((HOST, port), timeout=seconds) as connection:
        connection.setblocking(False)
        return _Exchange(connection, iter(chunks), is_done, half_close).run(seconds, linger)


class _Exchange:
    def __init__(
        self, connection: socket.socket, chunks: Iterator[bytes | float], is_done: Callable[[bytes], bool], half: bool
    ) -> None:
        self._connection = connection
        self._chunks: Iterator[bytes | float] | None = chunks
        self._is_done = is_done
        self._half_close = half
        self._unsent = memoryview(b"")
        self._resume = 0.0  # when to send again
        self._data = bytearray()
        self._closed = False
        self._sent = 0

    def run(self, seconds: float, linger: float) -> Received:
        begin = time.monotonic()
        end = begin + seconds
        while not self._closed and time.monotonic() < end:
            if not (self._data and self._is_done(bytes(self._data))):
                self._turn(end)
                continue
            self._chunks, self._unsent = None, memoryview(b"")
            self._read_on(min(end, time.monotonic() + linger))
            break
        return Received(bytes(self._data), self._closed, self._sent, time.monotonic() - begin)

    def _read_on(self, end: float) -> None:
        """Read what else comes, and see whether the connection ends."""
        while not self._closed and select.select([self._connection], [], [], max(0.0, end - time.monotonic()))[0]:
            self._read()

    def _turn(self, end: float) -> None:
        """Send a piece or read one, whichever is possible first."""
        now = time.monotonic()
        may_send = self._chunks is not None and now >= self._resume
        until = end if may_send or self._chunks is None else min(end, self._resume)
        readable, writable, _ = select.select(
            [self._connection], [self._connection] if may_send else [], [], max(0.0, until - now)
        )
        if readable:
            self._read()
        elif writable:
            self._send()

    def _read(self) -> None:
        try:
            piece = self._connection.recv(_READ)
        except ConnectionError:
            piece = b""
        self._closed = not piece
        self._data += piece

    def _send(self) -> None:
        if not self._unsent:
            chunk = next(self._chunks, None) if self._chunks is not None else None
            if chunk is None:
                self._chunks = None
                if self._half_close:
                    self._connection.shutdown(socket.SHUT_WR)
                return
            if isinstance(chunk, float):
                self._resume = time.monotonic() + chunk
                return
            self._unsent = memoryview(chunk)
        try:
            count = self._connection.send(self._unsent)
        except BlockingIOError:
            return
        except ConnectionError:  # closed while we sent: what it said before that may still lie in our buffer
            self._chunks = None
            return
        self._sent += count
        self._unsent = self._unsent[count:]


# --- HTTP ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reply:
    """One HTTP answer."""

    status: int
    headers: Mapping[str, str]  # lower-case names
    body: bytes


def replies(data: bytes) -> Iterator[Reply]:
    """Yield the whole answers in a stream of bytes. One without a length goes up to the end."""
    while b"\r\n\r\n" in data:
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        headers = {
            name.strip().lower().decode("latin1"): value.strip().decode("latin1")
            for name, _, value in (line.partition(b":") for line in lines)
        }
        status = int(first.split(b" ")[1])
        if headers.get("transfer-encoding") == "chunked":
            body, data = _unchunked(rest)
        else:
            length = 0 if status < 200 else int(headers.get("content-length", len(rest)))
            if len(rest) < length:
                return
            body, data = rest[:length], rest[length:]
        if body is None:
            return
        yield Reply(status, headers, body)


def _unchunked(rest: bytes) -> tuple[bytes | None, bytes]:
    body = b""
    while b"\r\n" in rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size, 16)
        body, rest = body + rest[:length], rest[length + 2 :]
        if not length:
            return body, rest
    return None, b""


def has_answer(data: bytes, count: int = 1) -> bool:
    """Say whether so many whole answers are there, not counting a 100 Continue."""
    return sum(reply.status >= 200 for reply in replies(data)) >= count


def outcome_of(received: Received) -> str:
    """Say in a word or two what a request came to.

    "413" is an answer of the application, held to the contract's form; "413 page" one for people; "413 bare" the
    server's own; "closed" is a connection that was ended without an answer, "held" one that was not.
    Several answers on one connection are joined by a plus: "3 x 401 + 400 bare".
    """
    found = [_outcome(reply) for reply in replies(received.data) if reply.status >= 200]
    if not found:
        return "closed" if received.closed else "held"
    return " + ".join(f"{count} x {each}" if count > 1 else each for each, count in Counter(found).items())


def _outcome(reply: Reply) -> str:
    if "x-request-id" not in reply.headers:
        return f"{reply.status} bare"
    if reply.headers.get("content-type", "").startswith("text/html"):
        return f"{reply.status} page"
    if reply.status < 500:
        check_form(reply.status, reply.headers, reply.body)
    return str(reply.status)
