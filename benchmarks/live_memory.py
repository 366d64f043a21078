"""The resident memory of processes while something goes on: what it was, the most of it, and whether it grows."""

import statistics
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from resource import getpagesize
from typing import Any

from benchmarks.procfs import families, proportional_mib

_MIB = 1024 * 1024
POSTGRES = "postgres together"  # dozens of processes that share pages, which are counted once

Reading = Mapping[str, float]  # MiB by the name of the process


def resident_mib(pid: int) -> float:
    """Return what a process has resident now, shared pages included; 0 if it is gone or there is no /proc."""
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * getpagesize() / _MIB
    return 0.0


class Memory:
    """Reads the memory of processes once a second, from `start` to `stop`, in a thread."""

    def __init__(self, pids: Mapping[str, int], postgres: int) -> None:
        self._pids = pids
        self._postgres = postgres
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._began = 0.0
        self.readings: list[tuple[float, Reading]] = []  # with the seconds since the start
        self.tell: Callable[[float, Reading], None] | None = None  # every half minute

    def read(self) -> Reading:
        """Return what the processes have now."""
        mib = {name: resident_mib(pid) for name, pid in self._pids.items()}
        return {**mib, POSTGRES: proportional_mib(families([self._postgres]))}

    def start(self) -> None:
        """Begin."""
        self._began = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        """End with a last reading."""
        self._ended.set()
        self._thread.join()
        self._take()

    def peak(self, name: str) -> float:
        """Return the most that was seen."""
        return max(reading[name] for _, reading in self.readings)

    def growth(self, name: str) -> float:
        """Return the MiB per minute by which it grew in the second half: until then caches and buffers fill."""
        half = self.readings[len(self.readings) // 2 :]
        if len(half) < 3:
            return 0.0
        seconds, mib = zip(*((at, reading[name]) for at, reading in half), strict=True)
        return statistics.linear_regression(seconds, mib).slope * 60

    def course(self, every: float = 10.0) -> list[dict[str, Any]]:
        """Return a reading for every so many seconds."""
        course: list[dict[str, Any]] = []
        for seconds, reading in self.readings:
            if not course or seconds >= course[-1]["seconds"] + every:
                mib = {name: round(value, 1) for name, value in reading.items()}
                course.append({"seconds": round(seconds), "mib": mib})
        return course

    def _take(self) -> None:
        self.readings.append((time.monotonic() - self._began, self.read()))
        if self.tell and len(self.readings) % 30 == 1:
            self.tell(*self.readings[-1])

    def _run(self) -> None:
        self._take()
        while not self._ended.wait(1.0):
            self._take()
