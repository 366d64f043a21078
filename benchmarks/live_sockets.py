"""A thousand browsers in one process: sockets that check every offset and note when every event arrived.

They share the machine with what they watch, so they are as cheap as Python gets: no more of RFC 6455 than what a server
sends, one buffer for all, and a frame that many sockets receive is parsed once: the others compare their bytes with it.

A process of its own: the first line of its input is the job, further lines are the words of `main`.
"""

import asyncio
import json
import resource
import struct
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

_AT_ONCE = 50  # sockets that are opening
_PATIENCE = 60.0  # seconds until a socket has its hello
_BUFFER_BYTES = 4 * 1024 * 1024  # more than a frame can have
_KNOWN_FRAMES = 100  # of a flow; a socket that is further behind parses for itself
_KEY_BYTES = 64  # has the first offset
_SLOTS = 60_000  # a millisecond each; the last one is for everything later
_CLOSE, _PING = 8, 9


class Delays:
    """How long things took, by the millisecond: millions of them cost no memory."""

    def __init__(self) -> None:
        self._counts = [0] * (_SLOTS + 1)
        self._worst = 0.0

    def add(self, seconds: float) -> None:
        """Note one."""
        self._counts[min(_SLOTS, max(0, int(seconds * 1000)))] += 1
        if seconds > self._worst:
            self._worst = seconds

    def summary(self) -> dict[str, float | None]:
        """Return the milliseconds that half, 99 % and all of them did not exceed."""
        return {"p50_ms": self._quantile(0.5), "p99_ms": self._quantile(0.99), "max_ms": round(self._worst * 1000, 1)}

    def _quantile(self, share: float) -> float | None:
        wanted, seen = share * sum(self._counts), 0
        for milliseconds, count in enumerate(self._counts):
            seen += count
            if count and seen >= wanted:
                return milliseconds + 1.0
        return None


@dataclass
class Group:
    """What the sockets of one kind have seen."""

    sockets: int = 0
    delays: Delays = field(default_factory=Delays)
    frames: int = 0  # that arrived at sockets, heartbeats and all
    bytes: int = 0
    events: int = 0  # that arrived at sockets
    faults: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        """Count from now on. What went wrong before stays."""
        self.delays = Delays()
        self.frames = self.bytes = self.events = 0

    def summary(self) -> dict[str, Any]:
        """Return everything for the report."""
        counts = {"sockets": self.sockets, "frames": self.frames, "bytes": self.bytes, "events": self.events}
        return {**counts, **self.delays.summary()}


@dataclass(frozen=True, slots=True)
class Parsed:
    """What matters of a frame, and its bytes to know it again."""

    payload: bytes
    type: str
    first: int
    last: int
    created: tuple[float, ...]  # when its events were made, in seconds
    statuses: tuple[int, ...]  # in each event


class Flow:
    """What is known about a flow: the frames that came lately."""

    def __init__(self, flow_id: str, group: Group) -> None:
        self.id = flow_id
        self.group = group
        self.first: int | None = None  # the offset of the first hello
        self.statuses = 0  # in all events
        self.last = -1
        self._known: OrderedDict[bytes, Parsed] = OrderedDict()

    def parsed(self, buffer: bytearray, begin: int, end: int) -> Parsed:
        """Return a frame that lies in the buffer; parse it if nobody else has had it."""
        key = bytes(buffer[begin : min(end, begin + _KEY_BYTES)])
        known = self._known.get(key)
        if known is None or len(known.payload) != end - begin or not buffer.startswith(known.payload, begin):
            known = self._known[key] = _parse(bytes(buffer[begin:end]))
            if known.type == "events" and known.last > self.last:
                self.statuses += sum(known.statuses[max(0, self.last + 1 - known.first) :])
                self.last = known.last
            if len(self._known) > _KNOWN_FRAMES:
                self._known.popitem(last=False)
        return known


def _parse(payload: bytes) -> Parsed:
    frame = orjson.loads(payload)
    if frame["type"] != "events":
        return Parsed(payload, frame["type"], 0, frame["offset"], (), ())
    events = frame["events"]
    offsets = [event["offset"] for event in events]
    if offsets != list(range(offsets[0], offsets[0] + len(offsets))):
        raise ValueError(f"offsets within a frame: {offsets}")
    created = tuple(datetime.fromisoformat(event["created_at"]).timestamp() for event in events)
    statuses = tuple(len(event["data"].get("statuses", ())) for event in events)
    return Parsed(payload, "events", offsets[0], offsets[-1], created, statuses)


class Socket(asyncio.BufferedProtocol):
    """One socket: the handshake, then frames."""

    _buffer = bytearray(_BUFFER_BYTES)  # of all: what came is dealt with before another socket receives
    _view = memoryview(_buffer)

    def __init__(self, flow: Flow, request: bytes) -> None:
        self.flow = flow
        self.group = flow.group
        self.opened = asyncio.Event()
        self.position = -1
        self.leaving = False
        self._request = request
        self._rest = b""
        self._upgraded = False
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self._transport = transport
        transport.write(self._request)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Offer the shared buffer, behind what has come of an unfinished frame."""
        self._buffer[: len(self._rest)] = self._rest
        return self._view[len(self._rest) :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take the frames that are complete."""
        end = len(self._rest) + nbytes
        begin = 0 if self._upgraded else self._take_head(end)
        while (after := self._take_frame(begin, end)) > begin:
            begin = after
        self._rest = bytes(self._buffer[begin:end])

    def connection_lost(self, exc: Exception | None) -> None:
        """An end without a close frame is a fault, unless it is ours."""
        if not self.leaving:
            self._fault(f"connection lost: {exc!r}")
        self.opened.set()

    def leave(self) -> None:
        """Go without a word."""
        self.leaving = True
        if self._transport:
            self._transport.abort()

    def _take_head(self, end: int) -> int:
        head_end = self._buffer.find(b"\r\n\r\n", 0, end)
        if head_end < 0:
            return 0
        head = bytes(self._buffer[:head_end]).lower()
        if not head.startswith(b"http/1.1 101 ") or b"sec-websocket-extensions" in head:
            self._fault(f"handshake: {head.splitlines()[0].decode()}")
        self._upgraded = True
        return head_end + 4

    def _take_frame(self, begin: int, end: int) -> int:
        """Take the frame that begins there; return where the next one does, the same if this one is not complete."""
        if not self._upgraded or end - begin < 2:
            return begin
        size, payload = self._buffer[begin + 1], begin + 2
        if size == 126:
            payload += 2
        elif size == 127:
            payload += 8
        if end < payload:
            return begin
        if size >= 126:
            size = int.from_bytes(self._buffer[begin + 2 : payload], "big")
        if end < payload + size:
            return begin
        opcode = self._buffer[begin]
        if opcode == 0x81:
            self._take_text(payload, payload + size)
        elif opcode == 0x80 | _PING:  # answered with a mask of zeros
            self._transport.write(bytes((0x8A, 0x80 | size)) + bytes(4) + self._buffer[payload : payload + size])
        elif opcode == 0x80 | _CLOSE:
            self._fault(f"closed with {struct.unpack_from('!H', self._buffer, payload)[0] if size >= 2 else 1005}")
            self.leave()
        else:
            self._fault(f"a frame that begins with {opcode:#x}")
        return payload + size

    def _take_text(self, begin: int, end: int) -> None:
        now = time.time()
        group = self.group
        try:
            frame = self.flow.parsed(self._buffer, begin, end)
        except (ValueError, KeyError) as error:
            self._fault(f"a frame that cannot be: {error}")
            return
        group.frames += 1
        group.bytes += end - begin
        if frame.type == "events":
            if frame.first != self.position + 1:
                self._fault("a gap" if frame.first > self.position else "a repetition")
            self.position = frame.last
            group.events += len(frame.created)
            for created in frame.created:
                group.delays.add(now - created)
        elif frame.type == "hello":
            self.position = frame.last
            self.flow.first = frame.last if self.flow.first is None else self.flow.first
            self.opened.set()
        elif frame.type != "heartbeat" or frame.last != self.position:
            self._fault(f"{frame.type} at {frame.last} instead of {self.position}")

    def _fault(self, what: str) -> None:
        self.group.faults[what] += 1


class Crowd:
    """All sockets of the job."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        self._port = job["port"]
        self.groups = {name: Group() for name in job["groups"]}
        self.flows: dict[str, Flow] = {}
        self.sockets: list[Socket] = []
        self._watches = job["watches"]

    async def open(self) -> None:
        """Open all sockets, a few at a time, and return when each has its hello."""
        gate = asyncio.Semaphore(_AT_ONCE)
        await asyncio.gather(*(self._open(gate, *watch) for watch in self._watches))

    def socket(self, group: str, flow_id: str, request: bytes) -> Socket:
        """Return a new socket of the crowd, which is not connected yet."""
        flow = self.flows.setdefault(flow_id, Flow(flow_id, self.groups[group]))
        flow.group.sockets += 1
        self.sockets.append(Socket(flow, request))
        return self.sockets[-1]

    async def _open(self, gate: asyncio.Semaphore, group: str, flow_id: str, token: str) -> None:
        # Browsers offer compression; for a thousand sockets it would cost the server a thousand times the work.
        request = (
            f"GET /ws/flows/{flow_id} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Extensions: permessage-deflate\r\nAuthorization: Bearer {token}\r\n\r\n"
        )
        async with gate:
            socket = self.socket(group, flow_id, request.encode())
            await asyncio.get_running_loop().create_connection(lambda: socket, "127.0.0.1", self._port)
            await asyncio.wait_for(socket.opened.wait(), _PATIENCE)

    async def catch_up(self, offsets: Mapping[str, int], seconds: float) -> None:
        """Wait until every socket is where its flow is; one that never is there is a fault."""
        deadline = time.monotonic() + seconds
        while any(one.position < offsets[one.flow.id] for one in self.sockets) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        for one in self.sockets:
            if one.position != offsets[one.flow.id]:
                one.group.faults[f"ended at {one.position} instead of {offsets[one.flow.id]}"] += 1

    def summary(self) -> dict[str, Any]:
        """Return what all sockets have seen since the last `begin`."""
        return {name: group.summary() for name, group in self.groups.items()}


async def main(job: Mapping[str, Any]) -> None:
    """Open all sockets; `begin` counts from then on, `end` tells what was seen, offsets by flow end it with a check."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    crowd = Crowd(job)
    await crowd.open()
    _say({"opened": len(crowd.sockets)})
    cpu = began = 0.0
    while True:
        line = await asyncio.to_thread(sys.stdin.readline)
        if line == "begin\n":
            for group in crowd.groups.values():
                group.begin()
            cpu, began = time.process_time(), time.perf_counter()
        elif line == "end\n":
            spent = {"cpu_seconds": time.process_time() - cpu, "seconds": time.perf_counter() - began}
            _say({"groups": crowd.summary(), **spent})
        elif not line:
            return
        else:
            break
    await crowd.catch_up(json.loads(line), job["patience"])
    begun = {flow.id: flow.first for flow in crowd.flows.values()}
    statuses = {flow.id: flow.statuses for flow in crowd.flows.values()}
    faults = {name: dict(group.faults) for name, group in crowd.groups.items()}
    _say({"begun": begun, "statuses": statuses, "faults": faults, "delays": crowd.summary()})
    for socket in crowd.sockets:
        socket.leave()


def _say(answer: Any) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.stdin.readline())))
