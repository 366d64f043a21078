"""Workers that report, whether they are answered quickly or not: `make bench-live`'s load.

Batches are due at random moments, as many workers make them (a Poisson process: a regular beat would fall in step with
the platform's own). The delay of a batch counts from then: a server that falls behind is not asked more gently.
A process of its own: its input is the job, and then a line that lets it begin.
"""

import json
import random
import selectors
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import cycle
from typing import Any

from benchmarks.generator import Connection
from benchmarks.live_sockets import Delays
from benchmarks.workload import Work

_PATIENCE = 15.0  # seconds for an answer


def _requests(job: Any) -> Iterator[tuple[int, bytes]]:
    """Yield the number of a work and its next request, the works in turn."""
    works = [Work.of({"work": work}).requests(job["token"]) for work in job["works"]]
    for requests in works:
        next(requests)  # prepares them
    for number in cycle(range(len(works))):
        yield number, next(works[number])


class Load:
    """Batches that are due, and connections to send them over."""

    def __init__(self, job: Any) -> None:
        self._left = max(1, round(job["seconds"] * job["batches_per_second"]))
        self._rate = job["batches_per_second"]
        self._chance = random.Random(job["seconds"])
        self._requests = _requests(job)
        self._port = job["port"]
        self._idle: list[Connection] = []
        self._due: dict[Connection, tuple[int, float]] = {}  # of the connections that wait for an answer
        self._selector = selectors.DefaultSelector()
        for _ in range(job["connections"]):
            self._connect()
        self.delays = Delays()
        self.answered: Counter[int] = Counter()
        self.errors = 0
        self.first_error = ""

    def run(self) -> None:
        """Send all batches, each when it is due or as soon as a connection is free, and wait for the answers."""
        due = time.perf_counter()
        while (self._left and (self._idle or self._due)) or self._due:
            while self._left and self._idle and due <= time.perf_counter():
                self._send(due)
                due += self._chance.expovariate(self._rate)
            waits = self._left and self._idle
            ready = self._selector.select(max(0.0, due - time.perf_counter()) if waits else _PATIENCE)
            if not ready and not waits:
                self._failed(f"{len(self._due)} batches were not answered within {_PATIENCE:.0f} s")
                return
            for key, _ in ready:
                self._receive(key.data)

    def _connect(self) -> None:
        connection = Connection(self._port)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        self._idle.append(connection)

    def _send(self, due: float) -> None:
        connection = self._idle.pop()
        work, request = next(self._requests)
        self._due[connection] = work, due
        self._left -= 1
        connection.send(request)

    def _receive(self, connection: Connection) -> None:
        try:
            answer = connection.receive()
        except OSError as error:
            self._selector.unregister(connection.socket)
            if connection in self._idle:  # servers close what says nothing for a minute: no batch is lost by it
                self._idle.remove(connection)
            else:
                del self._due[connection]
                self._failed(str(error))
            self._connect()
            return
        if answer is None:
            return
        work, due = self._due.pop(connection)
        self._idle.append(connection)
        if answer[9:12] == b"200":
            self.answered[work] += 1
            self.delays.add(time.perf_counter() - due)
        else:
            self._failed(answer[:1000].decode(errors="replace"))

    def _failed(self, why: str) -> None:
        self.errors += 1
        self.first_error = self.first_error or why


def main() -> None:
    """Get ready, wait for a line, send everything, and say what came of it."""
    job = json.loads(sys.stdin.readline())
    load = Load(job)
    print('"ready"', flush=True)
    sys.stdin.readline()
    began, cpu = time.perf_counter(), time.process_time()
    load.run()
    found = {
        "seconds": time.perf_counter() - began,
        "answered": [load.answered[number] for number in range(len(job["works"]))],
        "errors": load.errors,
        "first_error": load.first_error,
        "cpu_seconds": time.process_time() - cpu,
        **load.delays.summary(),
    }
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
