"""The load generator: keeps a number of connections busy, each with one request at a time.

It shares the machine with what it measures, so it is as cheap as Python gets: whole requests made beforehand, plain
sockets, no more of HTTP/1.1 than what a keep-alive answer needs. Its own processor time is part of the result.
"""

import selectors
import socket
import time
from collections.abc import Callable
from typing import Any

from benchmarks.sample import Sample, Stopwatch, client
from benchmarks.workload import Work

_PATIENCE = 15.0  # seconds without any answer
_RECEIVED_AT_ONCE = 256 * 1024


class Connection:
    """A kept connection with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent_at = 0.0
        self._received = b""

    def send(self, request: bytes) -> None:
        """Send a request; it fits into the socket's buffer, so this does not wait."""
        self.sent_at = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bytes | None:
        """Take what has come; return the whole answer, or `None` while a part of it is missing."""
        piece = self.socket.recv(_RECEIVED_AT_ONCE)
        if not piece:
            raise ConnectionError("the server closed the connection")
        answer = self._received = self._received + piece if self._received else piece
        head_end = answer.find(b"\r\n\r\n")
        if head_end < 0 or len(answer) < head_end + 4 + _content_length(answer[:head_end]):
            return None
        self._received = b""
        return answer


def _content_length(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(b"\r\ncontent-length:")
    if at < 0:
        raise ConnectionError(f"an answer without Content-Length: {head.decode(errors='replace')}")
    return int(lower[at + 17 :].split(b"\r\n", 1)[0])


def measure(job: Any, begin: Callable[[], Stopwatch]) -> Sample:
    """Send requests over all connections until the time is over and the last answer has come."""
    requests = Work.of(job).requests(job["token"])
    next(requests)  # prepares them
    connections = [Connection(job["port"]) for _ in range(job["connections"])]
    with selectors.DefaultSelector() as selector:
        for connection in connections:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        watch = begin()
        for connection in connections:
            connection.send(next(requests))
        busy = len(connections)
        while busy:
            ready = selector.select(_PATIENCE)
            if not ready:
                watch.failed(f"{busy} requests were not answered within {_PATIENCE:.0f} s")
                break
            for key, _ in ready:
                connection = key.data
                try:
                    answer = connection.receive()
                except OSError as error:
                    watch.failed(str(error))
                    selector.unregister(connection.socket)
                    busy -= 1
                    continue
                if answer is None:
                    continue
                now = time.perf_counter()
                if answer[9:12] == b"200":
                    watch.took(connection.sent_at, now)
                else:
                    watch.failed(answer[:1000].decode(errors="replace"))
                if watch.goes_on(now):
                    connection.send(next(requests))
                else:
                    busy -= 1
    return watch.stop()


if __name__ == "__main__":
    client(measure)
