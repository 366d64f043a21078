"""Hostile handshakes and frames on the sockets."""

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.abuse.attack import Attack, Scene, bearer, head
from tests.abuse.wire import Chunks, exchange

HANDSHAKE = "no handshake (RFC 6455, 4.2): autobahn answers by itself"
NO_FRAME = "no frame (RFC 6455, 5): autobahn cuts the connection, which owes a breach of the protocol no word"
TOO_BIG = "4 KiB is the limit of what a client says (flowplatform/live.py), and of the frames that make it up"
UNHEARD = "clients have nothing to say here: it is passed over"
NOT_TEXT = "text is UTF-8 (RFC 6455, 8.1): autobahn cuts the connection"
REFUSED = "a close code of the contract"

_CONTINUED, _TEXT, _BINARY, _CLOSE, _PING = 0x0, 0x1, 0x2, 0x8, 0x9
_KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
_UPGRADE = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")


def frame(opcode: int, payload: bytes = b"", *, final: bool = True, masked: bool = True, reserved: int = 0) -> bytes:
    """Return a frame as a client sends it, or as none should."""
    first = (0x80 if final else 0) | reserved << 4 | opcode
    mask = 0x80 if masked else 0
    if len(payload) < 126:
        begin = bytes([first, mask | len(payload)])
    elif len(payload) < 65_536:
        begin = bytes([first, mask | 126]) + len(payload).to_bytes(2, "big")
    else:
        begin = bytes([first, mask | 127]) + len(payload).to_bytes(8, "big")
    return begin + (bytes(4) + payload if masked else payload)  # masked with zeros: it stays as it is


def handshake(scene: Scene, *lines: str, query: str = "", path: str = "", key: str = _KEY) -> bytes:
    """Return the request for the socket of a flow."""
    address = f"{path or f'/ws/flows/{scene.flow_id}'}{query}"
    return head("GET", address, *_UPGRADE, *([key] if key else []), *lines)


@dataclass(frozen=True)
class SocketAttack(Attack):
    """A row whose client opens a socket properly, and then does not behave.

    The outcome is "close" and the code that the server gave, "closed" without one, or "open" if the socket still
    answers a ping at the end.
    """

    servers: tuple[str, ...] = field(default=("live",))
    asks: Callable[[Scene], bytes] = field(default=lambda scene: handshake(scene, bearer(scene)))

    def launch(self, scene: Scene) -> tuple[str, int]:
        sends = itertools.chain([self.asks(scene), 0.05], self.sends(scene), [frame(_PING, b"still there?")])
        received = exchange(scene.port, sends, seconds=self.seconds, is_done=_is_over)
        return _socket_outcome(received.data, received.closed), received.sent


def _frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield opcode and payload of each frame that a server sent after its handshake."""
    at = data.index(b"\r\n\r\n") + 4
    while len(data) >= at + 2:
        length, begin = data[at + 1] & 0x7F, at + 2
        if length >= 126:
            begin = at + (4 if length == 126 else 10)
            length = int.from_bytes(data[at + 2 : begin], "big")
        if len(data) < begin + length:
            return
        yield data[at] & 0x0F, data[begin : begin + length]
        at = begin + length


def _last_word(data: bytes) -> str | None:
    if not data.startswith(b"HTTP/1.1 101") or b"\r\n\r\n" not in data:
        return data[9:12].decode() if b"\r\n\r\n" in data else None
    for opcode, payload in _frames(data):
        if opcode == _CLOSE:
            return f"close {int.from_bytes(payload[:2], 'big')}" if payload else "close"
        if opcode == 0xA and payload == b"still there?":
            return "open"
    return None


def _is_over(data: bytes) -> bool:
    return _last_word(data) is not None


def _socket_outcome(data: bytes, closed: bool) -> str:
    return _last_word(data) or ("closed" if closed else "held")


def _frame_of_200_mb(scene: Scene) -> Iterator[bytes]:
    yield bytes([0x80 | _TEXT, 0x80 | 127]) + scene.large.to_bytes(8, "big") + bytes(4)
    yield from itertools.repeat(b"x" * 65_536, scene.large // 65_536)


def _fragments_without_end(scene: Scene) -> Iterator[bytes]:
    yield frame(_TEXT, b"x" * 100, final=False)
    yield from itertools.repeat(frame(_CONTINUED, b"x" * 100, final=False))


def _empty_fragments(scene: Scene) -> Iterator[bytes]:
    yield frame(_TEXT, final=False)
    yield from itertools.repeat(frame(_CONTINUED, final=False) * 100, 1_000 if scene.whole else 100)


def _pings(scene: Scene) -> Iterator[bytes]:
    yield from itertools.repeat(frame(_PING, b"x" * 125) * 100, 200 if scene.whole else 50)


def _messages(scene: Scene) -> Iterator[bytes]:
    yield from itertools.repeat(frame(_TEXT, b"{}") * 100, 1_000 if scene.whole else 50)


def _close(code: bytes) -> Callable[[Scene], Chunks]:
    return lambda scene: [frame(_CLOSE, code)]


def _of(*chunks: bytes) -> Callable[[Scene], Chunks]:
    return lambda scene: chunks


def _handshake(name: str, answer: str, ask: Callable[[Scene], Chunks], why: str = HANDSHAKE) -> Attack:
    return Attack(f"handshake {name}", ask, answer, why, servers=("live",))


def _address(name: str, answer: str, query: str, why: str) -> SocketAttack:
    return SocketAttack(
        f"socket at {name}", _of(), answer, why, asks=lambda scene: handshake(scene, bearer(scene), query=query)
    )


ATTACKS: list[Attack] = [
    _handshake("without a key", "400 bare", lambda scene: [handshake(scene, bearer(scene), key="")]),
    _handshake("with half a key", "400 bare", lambda scene: [handshake(scene, key="Sec-WebSocket-Key: eA==")]),
    _handshake("of version 99", "400 bare", lambda scene: [handshake(scene).replace(b"Version: 13", b"Version: 99")]),
    _handshake("by POST", "405 bare | 400 bare", lambda scene: [handshake(scene).replace(b"GET", b"POST", 1)]),
    SocketAttack(
        "handshake by HTTP/1.0",
        _of(),
        "open",
        "Daphne takes it for one by HTTP/1.1",
        asks=lambda scene: handshake(scene, bearer(scene)).replace(b"/1.1", b"/1.0", 1),
    ),
    _handshake(
        "with a body of 2 MB",
        "413 page",
        lambda scene: [handshake(scene, bearer(scene), "Content-Length: 2000000"), b"x" * 2_000_000],
    ),
    _handshake(
        "with a body",
        "404 page",
        lambda scene: [handshake(scene, bearer(scene), "Content-Length: 7"), frame(_TEXT, b"x")],
        "a handshake has none: it is a plain request, and no page has that address",
    ),
    _handshake(
        "for another protocol",
        "404 page | 404",
        lambda scene: [head("GET", "/ws/flows/x", "Upgrade: h2c", "Connection: Upgrade")],
        "no page has that address",
    ),
    _handshake(
        "without an upgrade",
        "404 page | 404",
        lambda scene: [head("GET", f"/ws/flows/{scene.flow_id}")],
        "no page has that address",
    ),
    SocketAttack("socket of nobody", _of(), "close 4401", REFUSED, asks=handshake),
    SocketAttack(
        "socket with a binary token",
        _of(),
        "close 4401 | 400",
        REFUSED,
        asks=lambda scene: handshake(scene, "Authorization: Bearer \xff\xfe"),
    ),
    SocketAttack(
        "socket with a token of 8 KB",
        _of(),
        "close 4401",
        REFUSED,
        asks=lambda scene: handshake(scene, "Authorization: Bearer " + "a" * 8_000),
    ),
    *(
        SocketAttack(
            f"socket at {path[:40]}",
            _of(),
            "close 4404 | 400 | 404",
            REFUSED,
            asks=lambda scene, path=path: handshake(scene, bearer(scene), path=path),
        )
        for path in (
            "/ws/flows/nonsense",
            "/ws/flows/%00",
            "/ws/flows/%ff",
            "/ws/flows/" + "9" * 5_000,
            "/ws/flows/../flows/x",
            "/ws/",
            "/api/flows",
        )
    ),
    _address("since=-1", "open", "?since=-1", "a past that is none: reset"),
    _address("since of 5,000 digits", "open", "?since=" + "9" * 5_000, "a past that is none: reset"),
    _address("since=%00", "open", "?since=%00", "a past that is none: reset"),
    _address("since in another script", "open", "?since=%D9%A1", "a past that is none: reset"),
    _address("an odd epoch", "open", "?since=0&epoch=%ff%00'", "a past that is none: reset"),
    _address("a thousand parameters", "open", "?" + "&".join(["since=1"] * 1_000), "the first counts"),
    SocketAttack("frame of 200 MB", _frame_of_200_mb, "closed", TOO_BIG),
    SocketAttack(
        "frame of 2^63 bytes",
        _of(bytes([0x81, 0xFF]) + b"\x7f" + b"\xff" * 7 + bytes(4)),
        "closed",
        TOO_BIG,
    ),
    SocketAttack("frame of 5 KB", _of(frame(_TEXT, b"x" * 5_000)), "closed", TOO_BIG),
    SocketAttack("fragments without end", _fragments_without_end, "closed", TOO_BIG),
    SocketAttack("empty fragments by the thousand", _empty_fragments, "open", UNHEARD),
    SocketAttack("frame without a mask", _of(frame(_TEXT, b"{}", masked=False)), "closed", NO_FRAME),
    SocketAttack("reserved bits", _of(frame(_TEXT, b"{}", reserved=7)), "closed", NO_FRAME),
    *(SocketAttack(f"opcode {opcode:#x}", _of(frame(opcode)), "closed", NO_FRAME) for opcode in (0x3, 0x7, 0xB, 0xF)),
    SocketAttack("continuation of nothing", _of(frame(_CONTINUED, b"x")), "closed", NO_FRAME),
    SocketAttack("text within a text", _of(frame(_TEXT, b"x", final=False), frame(_TEXT, b"y")), "closed", NO_FRAME),
    SocketAttack("ping in fragments", _of(frame(_PING, b"x", final=False)), "closed", NO_FRAME),
    SocketAttack("ping of 200 bytes", _of(frame(_PING, b"x" * 200)), "closed", NO_FRAME),
    SocketAttack(
        "length that is longer than need be", _of(bytes([0x81, 0xFE, 0, 1]) + bytes(4) + b"x"), "closed", NO_FRAME
    ),
    SocketAttack("bad UTF-8", _of(frame(_TEXT, b"\xff\xfe")), "closed", NOT_TEXT),
    SocketAttack("a lone surrogate", _of(frame(_TEXT, b"\xed\xa0\x80")), "closed", NOT_TEXT),
    SocketAttack("binary", _of(frame(_BINARY, os.urandom(4_000))), "open", UNHEARD),
    SocketAttack(
        "JSON that asks for things", _of(frame(_TEXT, b'{"type":"websocket.close","subscribe":"*"}')), "open", UNHEARD
    ),
    SocketAttack("messages by the thousand", _messages, "open", UNHEARD),
    SocketAttack("pings by the thousand", _pings, "open", "each is answered (RFC 6455, 5.5.2)"),
    *(
        SocketAttack(
            f"close with {name}", _close(code), answer, "a close is answered, a wrong one as such (RFC 6455, 7.4)"
        )
        for name, code, answer in [
            ("nothing", b"", "close | close 1000"),
            ("one byte", b"\x03", "closed"),
            ("code 999", (999).to_bytes(2, "big"), "closed"),
            ("code 1005", (1005).to_bytes(2, "big"), "closed"),
            ("code 5000", (5000).to_bytes(2, "big"), "closed"),
            ("a reason that is not UTF-8", (1000).to_bytes(2, "big") + b"\xff", "closed"),
        ]
    ),
    SocketAttack("HTTP after the handshake", _of(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"), "closed", NO_FRAME),
    SocketAttack(
        "frames before the handshake is answered",
        _of(),
        "open",
        UNHEARD,
        asks=lambda scene: handshake(scene, bearer(scene)) + frame(_TEXT, b"x" * 100),
    ),
]
