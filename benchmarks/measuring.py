"""Measuring one cell once: client processes on one side, processor time of everybody on the other."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

from benchmarks.procfs import cpu_seconds, families
from benchmarks.sample import Sample
from flowplatform import env


@dataclass
class Figures:
    """What one round of a cell came to. The groups are server, postgres, worker, valkey, others and client."""

    batches_per_second: float
    p50_ms: float
    p99_ms: float | None = None
    answered: int = 0
    errors: int = 0
    first_error: str = ""
    cpu_seconds_per_1000_batches: dict[str, float] = field(default_factory=dict)
    busy: dict[str, float] = field(default_factory=dict)  # cores, while the clients ran
    busiest_server_process: float | None = None  # share of a core
    drain_seconds: float | None = None  # from the last answer to the number of the last event
    client_peak_mib: float = 0.0


class Meter:
    """Reads how much processor time groups of processes have used."""

    def __init__(self, roots: Mapping[str, Sequence[int]], server: str | None) -> None:
        self._roots = roots
        self._server = server
        self._began = time.perf_counter()
        self._before = self._read()

    def busy(self) -> tuple[dict[str, float], float | None, float]:
        """Return the cores that each group has kept busy, the busiest server process' share, and the seconds."""
        seconds, now = time.perf_counter() - self._began, self._read()
        used = {group: round(value / seconds, 3) for group, value in self._used(now).items()}
        before, after = (reading.get("server", {}) for reading in (self._before, now))
        shares = [(after[pid] - before.get(pid, 0.0)) / seconds for pid in after]
        return used, round(max(shares), 3) if shares else None, seconds

    def seconds(self) -> dict[str, float]:
        """Return the seconds that each group has used until now."""
        return self._used(self._read())

    def _used(self, now: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
        return {group: sum(now[group].values()) - sum(self._before[group].values()) for group in self._before}

    def _read(self) -> dict[str, dict[int, float]]:
        read: dict[str, dict[int, float]] = {}
        for name, roots in self._roots.items():
            shared = name in ("postgres", "valkey", "worker")
            group = name if shared else "server" if name == self._server else "others"
            read.setdefault(group, {}).update(cpu_seconds(families(roots)))
        return read


@contextmanager
def clients(module: str, jobs: Sequence[Mapping[str, Any]]) -> Iterator["Clients"]:
    """Have client processes for the duration of a with statement, ready to begin."""
    started = [_start(module) for _ in jobs]
    try:
        for process, job in zip(started, jobs, strict=True):
            _say(process, json.dumps(job))
        for process in started:
            _hear(process)
        yield Clients(started)
    finally:
        for process in started:
            process.kill()
            process.communicate()


class Clients:
    """Clients that wait for their start."""

    def __init__(self, processes: Sequence["subprocess.Popen[str]"]) -> None:
        self._processes = processes

    def run(self) -> Sample:
        """Let them begin, and return what all of them saw."""
        self.begin()
        return self.end()

    def begin(self) -> None:
        """Let them begin."""
        for process in self._processes:
            _say(process, "go")

    def end(self) -> Sample:
        """Return what all of them saw, at their end."""
        return reduce(add, (Sample(**json.loads(_hear(process))) for process in self._processes))


def measured(run: Clients, meter: Meter, drain: Callable[[], float] | None) -> Figures:
    """Let the clients run and return the figures. `drain` waits until the platform has done everything that follows."""
    sample = run.run()
    busy, busiest, seconds = meter.busy()
    drain_seconds = round(drain(), 3) if drain else None
    used = {**meter.seconds(), "client": sample.cpu_seconds}
    thousands = max(sample.answered, 1) / 1000
    return Figures(
        batches_per_second=round(sample.batches_per_second, 1),
        p50_ms=sample.quantile(0.5) or 0.0,
        p99_ms=sample.quantile(0.99),
        answered=sample.answered,
        errors=sample.errors,
        first_error=sample.first_error,
        cpu_seconds_per_1000_batches={group: round(value / thousands, 3) for group, value in used.items()},
        busy={**busy, "client": round(sample.cpu_seconds / seconds, 3)},
        busiest_server_process=busiest,
        drain_seconds=drain_seconds,
        client_peak_mib=round(sample.peak_mib, 1),
    )


def _start(module: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", module], cwd=env.BASE_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _say(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _hear(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("A client process has ended; what it said is above.")
    return line
