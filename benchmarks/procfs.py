"""Processor time and memory of processes and of all that they started, from /proc; nothing where there is none."""

import os
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_TICK = 1 / os.sysconf("SC_CLK_TCK")
AVAILABLE = (_PROC / "self" / "stat").exists()


def families(roots: Iterable[int]) -> Iterator[int]:
    """Yield processes and all that they started, directly or not."""
    children = defaultdict(list)
    for path in _PROC.glob("[0-9]*") if AVAILABLE else ():
        if fields := _stat(int(path.name)):
            children[int(fields[1])].append(int(path.name))
    pending = list(roots)
    while pending:
        pid = pending.pop()
        yield pid
        pending += children[pid]


def cpu_seconds(pids: Iterable[int]) -> dict[int, float]:
    """Return the processor time of each process, with that of its children that have ended."""
    return {pid: sum(map(int, fields[11:15])) * _TICK for pid in pids if (fields := _stat(pid))}


def peak_mib(pid: int) -> float:
    """Return the most memory that a process ever had resident, shared pages included; 0 if it is gone."""
    return _kibibytes(pid, "status", "VmHWM") / 1024


def resident_mib(pid: int) -> float:
    """Return what a process has resident now, shared pages included; 0 if it is gone."""
    return _kibibytes(pid, "status", "VmRSS") / 1024


def proportional_mib(pids: Iterable[int]) -> float:
    """Return what processes occupy together now: memory that several share is counted once."""
    return sum(_kibibytes(pid, "smaps_rollup", "Pss") for pid in pids) / 1024


def _stat(pid: int) -> list[str]:
    """Return the fields after the name: state, parent, …; nothing if the process is gone."""
    with suppress(OSError):
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return []


def _kibibytes(pid: int, file: str, field: str) -> int:
    with suppress(OSError):
        if found := re.search(rf"^{field}:\s+(\d+) kB", (_PROC / str(pid) / file).read_text(), re.MULTILINE):
            return int(found[1])
    return 0
