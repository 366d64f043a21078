"""What a client measured: how many batches were answered in a stretch of time, and how long each took.

A client is a process of its own: it takes a job from its first line of input, says that it is ready, begins with the
second line, and answers with a sample. So what it needs for its start falls into nobody's measurement.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.procfs import peak_mib


@dataclass
class Sample:
    """What clients saw."""

    seconds: float = 0.0  # of the stretch that was measured
    answered: int = 0  # batches in all, those of the warm-up too
    latencies: list[float] = field(default_factory=list)  # milliseconds, of the batches within the stretch
    errors: int = 0
    first_error: str = ""
    cpu_seconds: float = 0.0  # of the clients' own processes, in all
    peak_mib: float = 0.0

    @property
    def batches_per_second(self) -> float:
        """The throughput."""
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def quantile(self, share: float) -> float | None:
        """Return the milliseconds that this share of the batches did not exceed; `None` without any batch."""
        if not self.latencies:
            return None
        return sorted(self.latencies)[min(len(self.latencies) - 1, int(share * len(self.latencies)))]

    def __add__(self, other: "Sample") -> "Sample":
        """Return what both saw at the same time."""
        return Sample(
            seconds=max(self.seconds, other.seconds),
            answered=self.answered + other.answered,
            latencies=self.latencies + other.latencies,
            errors=self.errors + other.errors,
            first_error=self.first_error or other.first_error,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            peak_mib=max(self.peak_mib, other.peak_mib),
        )


class Stopwatch:
    """Times batches: first a warm-up that does not count, then the stretch that does, with one batch at the least."""

    def __init__(self, warm_up: float, seconds: float) -> None:
        self.sample = Sample()
        self._from = time.perf_counter() + warm_up
        self._until = self._from + seconds
        self._last = self._until

    def goes_on(self, now: float) -> bool:
        """Say whether another batch is sent."""
        return now < self._until or not (self.sample.latencies or self.sample.errors)

    def took(self, begin: float, end: float) -> None:
        """Note a batch that was answered."""
        self.sample.answered += 1
        if end < self._from:
            return
        if end < self._until or not self.sample.latencies:
            self._last = max(self._until, end)
            self.sample.latencies.append(round((end - begin) * 1e3, 3))

    def failed(self, why: str) -> None:
        """Note a batch that was not answered as it should."""
        self.sample.errors += 1
        self.sample.first_error = self.sample.first_error or why

    def stop(self) -> Sample:
        """Return what was measured."""
        self.sample.seconds = self._last - self._from
        return self.sample


def client(measure: Callable[[Any, Callable[[], Stopwatch]], Sample]) -> None:
    """Be a client process: `measure` gets the job and a function that it calls when it is ready to begin."""
    job = json.loads(sys.stdin.readline())
    cpu_before = 0.0

    def begin() -> Stopwatch:
        nonlocal cpu_before
        print("ready", flush=True)
        sys.stdin.readline()
        cpu_before = time.process_time()
        return Stopwatch(job["warm_up"], job["seconds"])

    sample = measure(job, begin)
    sample.cpu_seconds = time.process_time() - cpu_before
    sample.peak_mib = peak_mib(os.getpid())
    print(json.dumps(asdict(sample)), flush=True)
