"""Clients that take their time. A process has two threads for the web and eight on live; none may be waited for."""

import itertools
from collections.abc import Iterator

from tests.abuse.attack import Attack, Scene, bearer, good_request, head, post

TOO_SLOW = "ten seconds for a body (flowplatform/bodies.py); no thread waits for it"
NO_HEAD = "ten seconds for a head on live (flowplatform/live_http.py); granian's limit is 60 s, idle or not"


def _drop_by_drop(begin: bytes, drop: bytes) -> Iterator[bytes | float]:
    yield begin
    for _ in itertools.count():
        yield 1.0
        yield drop


def _slow_body(scene: Scene) -> Iterator[bytes | float]:
    return _drop_by_drop(post(scene, "Content-Length: 1000"), b" ")


def _slow_chunks(scene: Scene) -> Iterator[bytes | float]:
    return _drop_by_drop(post(scene, "Transfer-Encoding: chunked"), b"1\r\n \r\n")


def _no_body(scene: Scene) -> Iterator[bytes | float]:
    yield post(scene, "Content-Length: 1000")
    yield 3600.0


def _almost_a_body(scene: Scene) -> Iterator[bytes | float]:
    return _drop_by_drop(post(scene, "Content-Length: 1048576") + b" " * 1_048_000, b" ")


def _on_get(scene: Scene) -> Iterator[bytes | float]:
    return _drop_by_drop(head("GET", "/api/flows", bearer(scene), "Content-Length: 1000"), b" ")


def _slow_head(scene: Scene) -> Iterator[bytes | float]:
    return _drop_by_drop(b"GET /api/flows HTTP/1.1\r\nHost: 127.0.0.1\r\n", b"X-A: y\r\n")


def _slow_line(scene: Scene) -> Iterator[bytes | float]:
    return _drop_by_drop(b"GET /api/", b"x")


def _silence(scene: Scene) -> Iterator[bytes | float]:
    yield 3600.0


def _second_request(scene: Scene) -> Iterator[bytes | float]:
    first = good_request(scene).replace(b"Connection: close\r\n", b"")
    return _drop_by_drop(first + post(scene, "Content-Length: 1000"), b" ")


_BOTH = ("web", "live")

ATTACKS = [
    Attack("a byte of the body a second", _slow_body, "408", TOO_SLOW, slow=_BOTH, crowd=True),
    Attack("a chunk of one byte a second", _slow_chunks, "408", TOO_SLOW, slow=_BOTH, crowd=True),
    Attack("a body that never comes", _no_body, "408", TOO_SLOW, slow=_BOTH, crowd=True),
    Attack("a body that almost comes", _almost_a_body, "408", TOO_SLOW, slow=_BOTH, crowd=True),
    Attack("a slow body on GET", _on_get, "408", TOO_SLOW, slow=_BOTH, crowd=True),
    Attack("a slow second request", _second_request, "200 + 408", TOO_SLOW, slow=_BOTH, crowd=True, answers=2),
    Attack("a header a second", _slow_head, "closed", NO_HEAD, slow=_BOTH, crowd=True, seconds=75.0),
    Attack("a byte of the request line a second", _slow_line, "closed", NO_HEAD, slow=_BOTH, crowd=True, seconds=75.0),
    Attack(
        "silence", _silence, "closed", "60 s without a request (granian, Twisted)", slow=_BOTH, crowd=True, seconds=75.0
    ),
]
