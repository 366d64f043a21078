"""Bodies: too large, without end, of the wrong length, compressed, smuggled."""

import gzip
import itertools
import zlib
from collections.abc import Iterator

from tests.abuse.attack import GOOD_BODY, Attack, Scene, bearer, good_request, head, post, sized
from tests.abuse.wire import Chunks

_PIECE = b"x" * 65_536
_CHUNK = b"10000\r\n" + _PIECE + b"\r\n"
_CHUNKED = "Transfer-Encoding: chunked"

TOO_LARGE = "1 MiB is the limit of a body; what is beyond it is not read (flowplatform/bodies.py)"
NO_LENGTH = "a length is digits, once (RFC 9112, 6.3): granian's hyper and Twisted refuse the rest"
SMUGGLED = "two lengths are how requests are smuggled: chunks count, and the connection ends (RFC 9112, 6.1)"
CODINGS = "chunked, once, is the only transfer coding"
BROKEN_CHUNK = "not a chunk (RFC 9112, 7.1): the connection has lost its place and ends"
COMPRESSED = "no Content-Encoding is supported, so that nothing small becomes large (flowplatform/bodies.py)"


def _of_length(scene: Scene) -> Iterator[bytes]:
    yield post(scene, f"Content-Length: {scene.large}")
    yield from itertools.repeat(_PIECE, scene.large // len(_PIECE))


def _in_chunks(scene: Scene) -> Iterator[bytes]:
    yield post(scene, _CHUNKED)
    yield from itertools.repeat(_CHUNK, scene.large // len(_PIECE))
    yield b"0\r\n\r\n"


def _without_end(scene: Scene) -> Iterator[bytes]:
    yield post(scene, _CHUNKED)
    yield from itertools.repeat(_CHUNK)


def _in_tiny_chunks(scene: Scene) -> Iterator[bytes]:
    yield post(scene, _CHUNKED)
    yield from itertools.repeat(b"1\r\nx\r\n" * 10_000)


def _to_a_page(scene: Scene) -> Iterator[bytes]:
    yield head("POST", "/login/", "Content-Type: multipart/form-data; boundary=b", f"Content-Length: {scene.large}")
    yield b'--b\r\nContent-Disposition: form-data; name="username"; filename="a"\r\n\r\n'
    yield from itertools.repeat(_PIECE, scene.large // len(_PIECE))


def _by_nobody(scene: Scene) -> Iterator[bytes]:
    yield head("POST", scene.status_path, "Content-Type: application/json", f"Content-Length: {scene.large}")
    yield from itertools.repeat(_PIECE, scene.large // len(_PIECE))


def _on_get(scene: Scene) -> Iterator[bytes]:
    yield head("GET", "/api/flows", bearer(scene), f"Content-Length: {scene.large}")
    yield from itertools.repeat(_PIECE, scene.large // len(_PIECE))


def _expecting(scene: Scene) -> Iterator[bytes]:
    yield post(scene, f"Content-Length: {scene.large}", "Expect: 100-continue")
    yield from itertools.repeat(_PIECE, scene.large // len(_PIECE))


def _bomb(scene: Scene) -> Chunks:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(b" " * 1_000_000) for _ in range(scene.large // 1_000_000)) + packer.flush()
    return sized(scene, bomb, "Content-Encoding: gzip")


_HIDDEN = b"0\r\n\r\nGET /api/flows HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


ATTACKS = [
    Attack("body of 200 MB", _of_length, "413", TOO_LARGE),
    Attack("chunked body of 200 MB", _in_chunks, "413", TOO_LARGE),
    Attack("chunked body without end", _without_end, "413", TOO_LARGE),
    Attack("chunks of one byte without end", _in_tiny_chunks, "413", TOO_LARGE),
    Attack("body of 200 MB from nobody", _by_nobody, "413", TOO_LARGE),
    Attack("body of 200 MB on GET", _on_get, "413", TOO_LARGE),
    Attack("body of 200 MB to a page", _to_a_page, "413 page", TOO_LARGE),
    Attack("body of 200 MB that asks first", _expecting, "413", TOO_LARGE),
    Attack(
        "body of one byte too many",
        lambda scene: sized(scene, b'"' + b"x" * (2**20 - 1) + b'"'),
        "413",
        TOO_LARGE,
    ),
    Attack(
        "length of a petabyte", lambda scene: [post(scene, "Content-Length: 1000000000000000"), b"{"], "413", TOO_LARGE
    ),
    Attack(
        "length of thirty digits",
        lambda scene: [post(scene, "Content-Length: " + "9" * 30), b"{"],
        "400 bare",
        NO_LENGTH,
        live="413",
    ),
    *(
        Attack(
            f"length {length!r}",
            lambda scene, length=length: [post(scene, f"Content-Length: {length}"), GOOD_BODY],
            "400 bare",
            NO_LENGTH,
        )
        for length in ("-1", "+1", "0x10", "1e3", "", "ten", "57, 58", "\xb2")
    ),
    Attack(
        "two different lengths",
        lambda scene: [post(scene, "Content-Length: 5", "Content-Length: 57"), GOOD_BODY],
        "400 bare",
        NO_LENGTH,
    ),
    Attack(
        "the same length twice",
        lambda scene: [post(scene, "Content-Length: 57", "Content-Length: 57"), GOOD_BODY],
        "200",
        "RFC 9112, 6.3 allows to take it for one, or to refuse it",
        live="400 bare",
    ),
    Attack(
        "length and chunks at once",
        lambda scene: [post(scene, "Content-Length: 60", _CHUNKED), _HIDDEN],
        "400",
        SMUGGLED,
        live="400 bare",
        linger=0.15,
    ),
    Attack(
        "chunks and length at once",
        lambda scene: [post(scene, _CHUNKED, "Content-Length: 60"), _HIDDEN],
        "400",
        SMUGGLED,
        live="400 bare",
        linger=0.15,
    ),
    *(
        Attack(
            f"Transfer-Encoding {coding!r}",
            lambda scene, coding=coding: [post(scene, f"Transfer-Encoding: {coding}"), _HIDDEN],
            answer,
            CODINGS,
            live=live,
            linger=0.15,
        )
        for coding, answer, live in [
            ("gzip", "400 bare", ""),
            ("gzip, chunked", "400", "400 bare"),
            ("chunked, chunked", "400", "400 bare"),
            ("xchunked", "400 bare", ""),
            ("chunked, identity", "400 bare", ""),
            ("identity", "400 bare", "400 | 400 + 400 bare"),  # Twisted: no coding, so no body, and then no request
            ("\x0bchunked", "400 bare", ""),
            ("chunked\r\n gzip", "400 bare", ""),
        ]
    ),
    *(
        Attack(
            f"chunk {name}",
            lambda scene, chunk=chunk: [post(scene, _CHUNKED), chunk],
            answer,
            BROKEN_CHUNK,
            live=live,
            slow=("live",) if live == "408" else (),
        )
        for name, chunk, answer, live in [
            ("of a size that is none", b"xyz\r\n{}\r\n0\r\n\r\n", "400", "400 bare"),
            ("of a negative size", b"-2\r\n{}\r\n0\r\n\r\n", "400", "400 bare"),
            ("of 2^64 bytes", b"10000000000000000\r\n{}", "400", "413"),
            ("longer than its size", b"2\r\n{}{}\r\n0\r\n\r\n", "400 | 422", "400 bare"),
            ("with an extension of 1 MB", b"2;" + b"x" * 1_000_000 + b"\r\n{}\r\n0\r\n\r\n", "400", "400 bare"),
            ("lines that end with LF", b"2\n{}\n0\n\n", "400", "408"),
            ("size in 100 KB of zeros", b"0" * 100_000 + b"2\r\n{}\r\n0\r\n\r\n", "422", "400 bare"),
        ]
    ),
    Attack(
        "10,000 trailers",
        lambda scene: [post(scene, _CHUNKED), b"2\r\n{}\r\n0\r\n" + b"X-A: b\r\n" * 10_000 + b"\r\n"],
        "400 | 422",
        "trailers are not kept, and few are read",
        live="400 bare",
    ),
    Attack(
        "body shorter than its length",
        lambda scene: [post(scene, "Content-Length: 100"), b"{"],
        "400",
        "half a body is none; to Twisted whoever stops sending has gone",
        live="closed",
        half_close=True,
    ),
    Attack(
        "chunked body cut off",
        lambda scene: [post(scene, _CHUNKED), b"100\r\n{"],
        "400",
        "half a body is none; to Twisted whoever stops sending has gone",
        live="closed",
        half_close=True,
    ),
    Attack(
        "body longer than its length",
        lambda scene: [post(scene, "Content-Length: 57"), GOOD_BODY + b"garbage\r\n\r\n"],
        "200 + 400 bare",
        "the report is whole; what follows it is no request",
        linger=0.2,
    ),
    Attack("no length, no chunks", lambda scene: [post(scene)], "400", "a report without a body is no JSON"),
    Attack(
        "body on GET",
        lambda scene: [head("GET", "/api/flows", bearer(scene), "Content-Length: 2", "Connection: close"), b"{}"],
        "200",
        "a body means nothing there (RFC 9110, 9.3.1) and does not become the next request",
    ),
    Attack(
        "requests hidden in the body of a GET",
        lambda scene: [
            head("GET", "/api/flows", bearer(scene), f"Content-Length: {len(good_request(scene))}"),
            good_request(scene),
        ],
        "200",
        "the body is read, not run",
        linger=0.15,
    ),
    Attack(
        "body in gzip",
        lambda scene: sized(scene, gzip.compress(GOOD_BODY), "Content-Encoding: gzip"),
        "415",
        COMPRESSED,
    ),
    Attack("gzip bomb of 200 MB", _bomb, "415", COMPRESSED),
    *(
        Attack(
            f"Content-Encoding {coding!r}",
            lambda scene, coding=coding: sized(scene, GOOD_BODY, f"Content-Encoding: {coding}"),
            "415",
            COMPRESSED,
        )
        for coding in ("br", "deflate", "gzip, gzip", "garbage", "identity, gzip")
    ),
    Attack(
        "Content-Encoding 'identity'",
        lambda scene: sized(scene, GOOD_BODY, "Content-Encoding: identity", "Connection: close"),
        "200",
        "it means that nothing was done",
    ),
    Attack(
        "Expect that nobody knows",
        lambda scene: sized(scene, GOOD_BODY, "Expect: 200-ok", "Connection: close"),
        "200",
        "a server may pass over it (RFC 9110, 10.1.1)",
    ),
]
