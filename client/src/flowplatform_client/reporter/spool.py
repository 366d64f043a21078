"""A queue in files, which outlives its process: whoever has its lock sends what is in it.

A spool is a folder:

    lock        locked by the process that has it; says whose token it was, and `ended` once nothing is added
    1.lines …   segments; one that is settled is removed
    settled     how far the platform has it all: the segment, and how many of its bytes
    numbers     which attempt has which number, as long as it is told of

A line is appended by one `write` before the caller goes on. So it is with the kernel when the process is killed; what
was told in the last seconds before the whole machine stops may be lost or torn. A torn line is left out.

The batches and their keys follow from the lines (`records`) and from where they stand. Whoever sends them again sends
the same batches under the same keys, and the platform writes them once. So it does no harm if `settled` lags behind.
"""

import contextlib
import errno
import logging
import math
import os
import secrets
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue

from flowplatform_client.reporter.queues import Batch, QueueFullError
from flowplatform_client.reporter.records import BATCH_SIZE, SEAL, Gathered, gather

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCK, _SETTLED, _NUMBERS, _SEGMENT = "lock", "settled", "numbers", ".lines"
_ENDED = "ended"
_TEAR = b"!\n"  # makes what stands before it no JSON
_FIRST_READ = 16 * 1024  # bytes: more than most batches have
_log = logging.getLogger("flowplatform_client.reporter")


class Spool:
    """A queue in a folder, locked for this process.

    Made by `create` and `adopt`. `room` is in bytes and is for whoever looks after the disk to set. A thread may append
    while another one does everything else; only one at a time may append.
    """

    is_durable = True

    def __init__(self, path: Path, lock: int, *, segment_bytes: int | None = None) -> None:
        """Read what is there. It grows if `segment_bytes` is given: about how large a segment gets."""
        self.path = path
        self.room = 0
        self._segment_bytes = segment_bytes
        self._lock = lock
        self._writing = -1  # descriptor of the last segment, to append to
        self._reading = -1  # descriptor of the first segment
        self._settled = os.open(path / _SETTLED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._is_growing = segment_bytes is not None
        self._is_sealed = False  # what is at the end is a batch, although no seal could be written
        self._is_torn = False  # a part of a line may stand at the end
        self._lacks_seal = False  # what stands at the end was sent as a batch
        self._numbers = _read_numbers(path / _NUMBERS)
        self._first, self._offset = self._read_settled()
        self._last = max([self._first, *self._segments()])
        _of_this_process.add(self)

    @classmethod
    def create(cls, folder: Path, execution_id: str, *, token_mark: str, segment_bytes: int) -> "Spool":
        """Make a spool in a folder of spools. Raises `OSError`, also where files cannot be locked."""
        if fcntl is None:
            raise OSError(errno.ENOTSUP, "files cannot be locked here")
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{execution_id}.{time.time_ns():020d}.{secrets.token_hex(16)}"
        unborn = folder / f".{name}"  # nobody adopts what is not locked yet
        unborn.mkdir(mode=0o700)
        lock = os.open(unborn / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(lock, f"{token_mark}\n".encode())
        spool = cls(unborn, lock, segment_bytes=segment_bytes)
        spool._open_segment()
        spool._descriptor()  # so that even the loss of the folder would cost nothing but what it is for
        spool.path = unborn.rename(folder / name)
        return spool

    @classmethod
    def adopt(cls, path: Path) -> "Spool | None":
        """Take a spool over whose process has ended; `None` if somebody has it or it is gone."""
        if fcntl is None:
            return None
        try:
            lock = os.open(path / _LOCK, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (path / _LOCK).stat().st_ino == os.fstat(lock).st_ino:
                spool = cls(path, lock)
                spool.announce_end(True)
                return spool
        except OSError:  # locked, or removed by whoever had it
            pass
        os.close(lock)
        return None

    @property
    def execution_id(self) -> str:
        """The execution that is told of."""
        return execution_of(self.path.name)

    @property
    def token_mark(self) -> str:
        """The mark of the token that its process had."""
        return _said(self.path)[0]

    # --- Of the thread that is told --------------------------------------------------------------------------------

    def append(self, line: bytes) -> None:
        """Add a line. Raises `QueueFullError` and `OSError`; a part that was written is left out when it is read."""
        if len(line) > self.room:
            raise QueueFullError
        self.room -= self._write(line)

    # --- Of the thread that sends ----------------------------------------------------------------------------------

    def seal(self) -> None:
        """End the batch that is open. On a full disk that holds as long as the process does."""
        self._lacks_seal = True  # before the next line, whatever happens now
        try:
            self._write(b"")
        except OSError:
            self._is_sealed = True

    def peek(self) -> Batch | None:
        """Return the first batch, `None` if there is none that is closed."""
        while True:
            found, offsets = self._read(self._offset)
            is_last = self._first == self._last
            if found.records and (found.is_closed or not is_last or not self._is_growing or self._is_sealed):
                self._is_sealed = False
                return self._batch(found, offsets)
            if found.records:
                return None
            if is_last:
                self._settle(self._first, offsets[1])  # seals, and what was torn
                return None
            self._settle(self._first + 1, 0)

    def peek_after(self, batch: Batch) -> Batch | None:
        """Return the one that will be the first when `batch` is settled, if that is known and closed."""
        segment, offset = batch.end
        if segment != self._first:
            return None
        found, offsets = self._read(offset)
        return self._batch(found, offsets) if found.is_closed else None

    def settle(self, batch: Batch) -> None:
        """Forget the first batch."""
        self._settle(*batch.end)

    def has_more(self) -> bool:
        """Say whether there is anything behind what was settled."""
        return self._first < self._last or os.fstat(self._descriptor()).st_size > self._offset

    def number_of(self, run: str) -> int | None:
        """Return the number of an attempt, if it was remembered."""
        return self._numbers.get(run)

    def remember(self, run: str, number: int) -> None:
        """Keep the number of an attempt as long as the queue keeps what is told of it."""
        self._numbers[run] = number
        with _noted("the number of an attempt"), (self.path / _NUMBERS).open("ab") as file:
            file.write(f"{run} {number}\n".encode())

    def forget(self, run: str) -> None:
        """Keep it no longer."""
        if self._numbers.pop(run, None) is not None and not self._numbers:
            (self.path / _NUMBERS).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Begin a new segment where the last one is large. Nobody may append meanwhile."""
        if os.fstat(self._writing).st_size >= (self._segment_bytes or math.inf):
            self._open_segment()

    def announce_end(self, has_ended: bool) -> None:
        """Say whether anything will be added: later spools of the execution wait for one that has ended."""
        with _noted("its end"):
            mark = f"{self.token_mark}\n".encode()
            os.ftruncate(self._lock, len(mark))
            os.pwrite(self._lock, mark + (_ENDED.encode() if has_ended else b""), 0)

    def remove(self) -> None:
        """Remove the folder, of which everything is settled. It is locked meanwhile: nobody takes over a part of it."""
        try:
            for name in (*(f"{number}{_SEGMENT}" for number in self._segments()), _SETTLED, _NUMBERS, _LOCK):
                (self.path / name).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self.path.rmdir()
        finally:
            self.close()

    def close(self) -> None:
        """Leave it to others. In a forked child this only gives up the copies: the lock is still the parent's."""
        for name in ("_writing", "_reading", "_settled", "_lock"):
            self._give_up(name)

    def _batch(self, found: Gathered, offsets: tuple[int, int]) -> Batch:
        key = f"{self.path.name.rpartition('.')[2]}-{self._first}-{offsets[0]}"
        return Batch(key, found.records, (self._first, offsets[1]))

    def _write(self, line: bytes) -> int:
        """Write a line after what is due before it, and return how many bytes that was. Raises `OSError`."""
        # A line of which only its end is missing would count, although it is told again.
        whole = (_TEAR if self._is_torn else b"") + (SEAL if self._lacks_seal else b"") + line
        self._is_torn = True
        if os.write(self._writing, whole) < len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._is_torn = self._lacks_seal = False
        return len(whole)

    def _read(self, offset: int) -> tuple[Gathered, tuple[int, int]]:
        """Return what comes first from an offset on, and the offsets of its beginning and its end."""
        size, most = _FIRST_READ, 2 * BATCH_SIZE
        while True:
            piece = os.pread(self._descriptor(), size, offset)
            *lines, rest = piece.split(b"\n", most)  # the rest is cut off, not whole yet, or torn
            found = gather(lines)
            if found.is_closed or (len(piece) < size and b"\n" not in rest):
                lengths = [len(line) + 1 for line in lines[: found.next]]
                return found, (offset + sum(lengths[: found.first]), offset + sum(lengths))
            size, most = 2 * size, 2 * most

    def _settle(self, segment: int, offset: int) -> None:
        """Note how far the platform has it all, and remove the segments before."""
        with _noted("how far it is settled"):
            os.pwrite(self._settled, f"{segment:020d} {offset:020d}\n".encode(), 0)
        for number in range(self._first, segment):
            self._give_up("_reading")
            (self.path / f"{number}{_SEGMENT}").unlink(missing_ok=True)
        self._first, self._offset = segment, offset

    def _read_settled(self) -> tuple[int, int]:
        """Return segment and offset up to which everything is settled, the first of all where that is not known."""
        try:
            segment, offset = map(int, os.pread(self._settled, 42, 0).split())
        except ValueError:
            return min(self._segments(), default=1), 0
        return segment, offset

    def _segments(self) -> list[int]:
        return [int(path.stem) for path in self.path.glob(f"*{_SEGMENT}")]

    def _open_segment(self) -> None:
        number = self._last if self._writing < 0 else self._last + 1
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self.path / f"{number}{_SEGMENT}", flags, 0o600)
        before, self._writing, self._last = self._writing, descriptor, number
        if before >= 0:
            os.close(before)

    def _descriptor(self) -> int:
        if self._reading < 0:
            name = f"{self._first}{_SEGMENT}"
            self._reading = os.open(self.path / name, os.O_RDONLY | os.O_CLOEXEC)
        return self._reading

    def _give_up(self, name: str) -> None:
        """Close a descriptor. It is forgotten first: a child that is forked in between must not close another's."""
        descriptor: int = getattr(self, name)
        setattr(self, name, -1)
        if descriptor >= 0:
            os.close(descriptor)


def execution_of(name: str) -> str:
    """Return the execution that a spool of this name tells of."""
    return name.partition(".")[0]


def is_ended(path: Path) -> bool:
    """Say whether nothing will be added to a spool any more: its process closed it, or somebody has taken it over."""
    return _ENDED in _said(path)


def _said(path: Path) -> list[str]:
    """Return the lines of a spool's lock file, an empty one if it is gone."""
    try:
        return (path / _LOCK).read_text().splitlines() or [""]
    except OSError:
        return [""]


def _read_numbers(path: Path) -> dict[str, int]:
    numbers = {}
    with contextlib.suppress(OSError):
        for line in path.read_text(errors="replace").splitlines():
            run, _, number = line.partition(" ")
            if number.isdecimal():
                numbers[run] = int(number)
    return numbers


@contextlib.contextmanager
def _noted(what: str) -> Iterator[None]:
    """Go on without what cannot be written, and have it logged later: locks may be held now."""
    try:
        yield
    except OSError as error:
        _troubles.put(f"{what} could not be written to the spool: {error}")


_troubles: "SimpleQueue[str]" = SimpleQueue()


def log_troubles() -> None:
    """Log what could not be written."""
    with contextlib.suppress(Empty):
        while True:
            _log.warning("%s", _troubles.get_nowait())


_of_this_process: "weakref.WeakSet[Spool]" = weakref.WeakSet()


def _forget_those_of_the_parent() -> None:
    """Give up a forked child's copies: a copy would keep the lock when the parent has ended."""
    for spool in list(_of_this_process):
        spool.close()
    _of_this_process.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_those_of_the_parent)
