"""Heads of requests: too many and too long header lines, broken lines, odd hosts, versions and methods."""

import itertools
from collections.abc import Iterator

from tests.abuse.attack import Attack, Scene, bearer, head

TOO_MANY = "hyper takes 100 header lines, Twisted 500 and 16 KiB together"
TOO_LONG = "hyper takes a head of 409 KiB and a target of 64 KiB, Twisted 16 KiB"
MALFORMED = "no HTTP (RFC 9112): the server answers by itself and closes"
HOST = "ALLOWED_HOSTS: no address is made of a host that is not ours"


NO_HOST = "ALLOWED_HOSTS; to Daphne it is the address that it listens on, which has to be allowed as any other"


def _get(*lines: str, path: str = "/api/flows", host: str = "Host: 127.0.0.1") -> list[bytes]:
    return [head("GET", path, *lines, host=host)]


def _lines_without_end(scene: Scene) -> Iterator[bytes]:
    yield b"GET /api/flows HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    yield from (b"X-%d: y\r\n" % number for number in itertools.count())


def _line_without_end(scene: Scene) -> Iterator[bytes]:
    yield b"GET /api/flows HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: "
    yield from itertools.repeat(b"x" * 65_536)


def _target_without_end(scene: Scene) -> Iterator[bytes]:
    yield b"GET /api/flows?"
    yield from itertools.repeat(b"x" * 65_536)


ATTACKS = [
    Attack(
        "10,000 headers",
        lambda scene: _get(*(f"X-{number}: y" for number in range(10_000))),
        "431 bare",
        TOO_MANY,
        live="400 bare | closed",
    ),
    Attack(
        "10,000 times one header",
        lambda scene: _get(*["X-A: y"] * 10_000),
        "431 bare",
        TOO_MANY,
        live="400 bare | closed",
    ),
    Attack("headers without end", _lines_without_end, "431 bare", TOO_MANY, live="400 bare | closed"),
    Attack(
        "a header of 300 KB", lambda scene: _get("X-A: " + "x" * 300_000), "401", TOO_LONG, live="400 bare | closed"
    ),
    Attack("a header without end", _line_without_end, "431 bare", TOO_LONG, live="400 bare | closed"),
    Attack("a header name of 100 KB", lambda scene: _get("x" * 100_000 + ": y"), "431 bare", TOO_LONG, live="closed"),
    Attack(
        "a target of 60 KB",
        lambda scene: _get(bearer(scene), path="/api/flows?" + "x" * 60_000),
        "200",
        TOO_LONG,
        live="400 bare | closed",
    ),
    Attack(
        "a target of 100 KB",
        lambda scene: _get(path="/api/flows?" + "x" * 100_000),
        "414 bare",
        TOO_LONG,
        live="400 bare | closed",
    ),
    Attack("a target without end", _target_without_end, "414 bare | 431 bare", TOO_LONG, live="400 bare | closed"),
    Attack("a method of 100 KB", lambda scene: [head("G" * 100_000, "/api/flows")], "401", TOO_LONG, live="closed"),
    *(
        Attack(
            name,
            lambda scene, data=data: [data],
            "400 bare | closed",
            MALFORMED,
            live="closed" if patience else "400 bare",
            slow=("live",) if patience else (),
        )
        for name, data, patience in [
            ("garbage", bytes(range(128, 256)) * 4 + b"\r\n\r\n", False),
            ("a TLS handshake", bytes.fromhex("16030100a5010000a10303") + bytes(160), True),
            ("a preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", False),
            ("HTTP/0.9", b"GET /api/flows\r\n\r\n", False),
            ("HTTP/9.9", b"GET /api/flows HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n", False),
            ("no version", b"GET /api/flows HTTP/\r\nHost: 127.0.0.1\r\n\r\n", False),
            ("a target with a space", b"GET /api/flows a HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", False),
            ("a space before the colon", b"GET /api/flows HTTP/1.1\r\nHost : 127.0.0.1\r\n\r\n", False),
            ("a header without a colon", b"GET /api/flows HTTP/1.1\r\nHost: 127.0.0.1\r\nnonsense\r\n\r\n", False),
            ("a header without a name", b"GET /api/flows HTTP/1.1\r\nHost: 127.0.0.1\r\n: y\r\n\r\n", False),
            ("NUL in a header", b"GET /api/flows HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: a\0b\r\n\r\n", False),
            ("CR alone in a header", b"GET /api/flows HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: a\rX-B: b\r\n\r\n", False),
            ("CR alone between lines", b"GET /api/flows HTTP/1.1\rHost: 127.0.0.1\r\r", True),
            ("NUL in the target", b"GET /api/fl\0ows HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", False),
            ("raw bytes in the target", b"GET /api/fl\xff\xfeows HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", False),
        ]
    ),
    Attack(
        "LF alone between lines",
        lambda scene: [head("GET", "/api/flows").replace(b"\r", b"")],
        "401",
        "RFC 9112, 2.2 lets a server read it so",
        live="closed",
        slow=("live",),
    ),
    Attack(
        "a folded header",
        lambda scene: [head("GET", "/api/flows", "X-A: y\r\n z")],
        "400 bare",
        "RFC 9112, 5.2 lets a server refuse it, or put a space there",
        live="401",
    ),
    Attack(
        "empty lines before a request",
        lambda scene: [b"\r\n" * 5000 + head("GET", "/api/flows")],
        "401",
        "RFC 9112, 2.2: hyper passes over them, Twisted over one",
        live="400 bare | closed",
    ),
    Attack("no Host", lambda scene: _get(host=""), "400", NO_HOST, live="401"),
    Attack("two Hosts", lambda scene: _get("Host: example.com"), "400", HOST),
    *(
        Attack(f"Host {name!r}", lambda scene, name=name: _get(host=f"Host: {name}"), "400", HOST)
        for name in (
            "example.com",
            "127.0.0.1.example.com",
            "127.0.0.1@example.com",
            "127.0.0.1:x",
            "[::1",
            "",
            "\xff",
            "a" * 5000,
            "127.0.0.1, example.com",
        )
    ),
    Attack(
        "X-Forwarded-Host",
        lambda scene: _get("X-Forwarded-Host: example.com", bearer(scene)),
        "200",
        "it is not believed",
    ),
    Attack(
        "an address with a foreign host",
        lambda scene: [head("GET", "http://example.com/api/flows", host="Host: example.com")],
        "400",
        HOST,
        live="400 page",  # Daphne takes the whole address for a path, which is not one of the API's
    ),
    Attack(
        "an address and another Host",
        lambda scene: [head("GET", "http://example.com/api/flows", bearer(scene))],
        "400 | 200",
        "the address counts where the server reads it; the answer names neither",
        live="404 page",
    ),
    Attack(
        "HTTP/1.0",
        lambda scene: [head("GET", "/api/flows").replace(b"/1.1", b"/1.0")],
        "401",
        "an old version of a good request",
    ),
    Attack(
        "HTTP/1.0 without Host",
        lambda scene: [head("GET", "/api/flows", host="").replace(b"/1.1", b"/1.0")],
        "400",
        NO_HOST,
        live="401",
    ),
    Attack(
        "HTTP/1.0 with chunks",
        lambda scene: [
            head("POST", scene.status_path, bearer(scene), "Transfer-Encoding: chunked").replace(b"/1.1", b"/1.0"),
            b"2\r\n{}\r\n0\r\n\r\n",
        ],
        "400 bare | 400",
        "HTTP/1.0 knows no chunks (RFC 9112, 6.1)",
        live="415 | 400 bare",
    ),
    *(
        Attack(
            f"method {method}",
            lambda scene, method=method: [head(method, "/api/flows", bearer(scene))],
            "405",
            "only what the API document names",
        )
        for method in ("TRACE", "BREW", "PROPFIND")
    ),
    Attack(
        "method get", lambda scene: [head("get", "/api/flows", bearer(scene))], "200", "Django reads it in any case"
    ),
    Attack(
        "CONNECT",
        lambda scene: [head("CONNECT", "example.com:443")],
        "400 | 400 bare | 403 page | 404 page",
        "we are no proxy",
    ),
    Attack(
        "OPTIONS *",
        lambda scene: [head("OPTIONS", "*")],
        "404 page | 400 page | 400 bare",
        "nothing of ours has that address",
    ),
    Attack(
        "a chain of 200 requests at once",
        lambda scene: [head("GET", "/api/flows") * 200],
        "200 x 401",
        "answered in order, one after the other",
        answers=200,
    ),
]
