"""The smoke size of `make bench-live`: that it works, and that nothing is lost. Never a time: machines differ."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.live_sockets import Crowd, Delays
from tests.leftovers import processes_of
from tests.stack import ROOT

# The benchmark has servers and settings of its own.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPLATFORM_")}


@pytest.mark.slow
def test_the_smoke_size_delivers_every_event_to_every_socket(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    size = ["--seconds", "3", "--sockets", "20", "--flows", "5", "--statuses", "200"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.live", *size, "--output", str(tmp_path / "live.json")],
        cwd=ROOT,
        env={**ENVIRONMENT, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []

    report = json.loads((tmp_path / "live.json").read_text())
    assert report["errors"] == []
    assert sum(report["load"]["answered"]) == 60
    assert {name: group["sockets"] for name, group in report["groups"].items()} == {"one-flow": 20, "many-flows": 20}
    assert report["groups"]["one-flow"]["events"] > 20 * 10
    processes = [each["process"] for each in report["memory"]]
    assert processes == ["live", "worker", "beat", "valkey", "postgres together"]
    assert "every event delivered" in done.stdout


def frame(first: int, count: int, status: str = "running") -> bytes:
    """Return an events frame as a server sends it."""
    created = "2026-11-20T09:14:02.119204Z"
    events = [
        {"offset": first + index, "created_at": created, "data": {"statuses": [{"status": status}]}}
        for index in range(count)
    ]
    payload = json.dumps({"type": "events", "events": events}, separators=(",", ":")).encode()
    return b"\x81\x7e" + len(payload).to_bytes(2, "big") + payload


class Played:
    """A crowd of two sockets whose server is the test."""

    def __init__(self) -> None:
        crowd = Crowd({"port": 0, "groups": ["one-flow"], "watches": []})
        self.group = crowd.groups["one-flow"]
        self.sockets = [crowd.socket("one-flow", "a-flow", b"") for _ in range(2)]
        hello = b'{"type":"hello","offset":5}'
        for one in self.sockets:
            self.receive(one, b"HTTP/1.1 101 Switching Protocols\r\n\r\n\x81" + bytes([len(hello)]) + hello)

    def receive(self, one: object, data: bytes, pieces: int = 1) -> None:
        step = -(-len(data) // pieces)
        for begin in range(0, len(data), step):
            piece = data[begin : begin + step]
            one.get_buffer(-1)[: len(piece)] = piece
            one.buffer_updated(len(piece))


def test_a_client_of_the_benchmark_sees_what_is_missing_comes_twice_or_differs() -> None:
    played = Played()
    first, second = played.sockets
    played.receive(first, frame(6, 2) + frame(8, 1), pieces=7)
    played.receive(second, frame(6, 2))
    assert (first.position, second.position, played.group.events, dict(played.group.faults)) == (8, 7, 5, {})
    played.receive(second, frame(9, 1))
    assert dict(played.group.faults) == {"a gap": 1}
    played.receive(first, frame(8, 1, "another text"))
    assert dict(played.group.faults) == {"a gap": 1, "a repetition": 1}
    played.receive(first, b"\x88\x02" + (4408).to_bytes(2, "big"))
    assert played.group.faults["closed with 4408"] == 1
    assert first.flow.statuses == 4


def test_delays_are_told_to_the_millisecond() -> None:
    delays = Delays()
    for milliseconds in range(1, 101):
        delays.add(milliseconds / 1000 + 0.0001)
    assert delays.summary() == {"p50_ms": 51.0, "p99_ms": 100.0, "max_ms": 100.1}
