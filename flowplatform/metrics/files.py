"""How processes count together: each writes its figures into files of a folder, and whoever is asked adds them up.

That is prometheus_client's multiprocess mode, for all processes that find the same `PROMETHEUS_MULTIPROC_DIR` in their
environment. `python -m flowplatform.web` makes a folder for its processes, `manage.py up` one for everything it runs.
Without the variable a process tells of itself alone.

The library names files by process ids, so every process that ever ran leaves some behind. Here a process takes the
first free place (0, 1, 2, …) instead, and holds it by a file lock, which the kernel drops with the process however it
ends. Who comes next takes the place and counts on from there: there are never more files than processes at one time,
and a counter never goes back. What a process showed of itself (gauges such as open sockets) goes with it.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from flowplatform import role
from flowplatform.embedded import locks

# Read here and not in `env`: the library reads it too, and a parent sets it for its children.
VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class Place:
    """The number under which this process writes. A forked child takes another."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = -1
        self.number = -1
        self._take()
        os.register_at_fork(after_in_child=self._take)

    def _take(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)  # a copy of the parent's, who goes on holding it
        self.number, self._lock = next(self._free())
        mark_process_dead(self.number, self._folder)  # type: ignore[no-untyped-call]

    def _free(self) -> Iterator[tuple[int, int]]:
        for number in itertools.count():
            lock = _open(self._folder / f"{number}.lock")
            if locks.try_lock(lock):
                yield number, lock
            os.close(lock)


def folder() -> Path | None:
    """Return the folder that processes share, if they do."""
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def share_if_asked() -> None:
    """Have figures that are made from now on written into the folder. Commands keep theirs to themselves."""
    shared = folder()
    if shared is None or role.current() == "command":
        values.ValueClass = values.MutexValue
        return
    shared.mkdir(mode=0o700, parents=True, exist_ok=True)
    place = Place(shared)
    values.ValueClass = values.MultiProcessValue(lambda: place.number)  # type: ignore[no-untyped-call]


def registry() -> CollectorRegistry:
    """Return what is to be told: the sum over the folder, or the figures of this process."""
    shared = folder()
    if shared is None or values.ValueClass is values.MutexValue:
        return REGISTRY
    _forget_the_dead(shared)
    collected = CollectorRegistry()
    MultiProcessCollector(collected, str(shared))  # type: ignore[no-untyped-call]
    return collected


def _forget_the_dead(shared: Path) -> None:
    """Remove the gauges of places that nobody holds. We hold each meanwhile, so nobody takes it and loses new ones."""
    for path in shared.glob("*.lock"):
        lock = _open(path)
        if locks.try_lock(lock):
            mark_process_dead(int(path.stem), shared)  # type: ignore[no-untyped-call]
        os.close(lock)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
