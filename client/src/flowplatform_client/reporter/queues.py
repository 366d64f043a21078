"""Where a reporter keeps what it was told: what every such place can do, and one in memory."""

from dataclasses import dataclass
from typing import Protocol
from uuid import uuid4

from flowplatform_client.reporter.records import BATCH_SIZE, SEAL, Gathered, Record, gather


class QueueFullError(Exception):
    """There is no room for the line."""


@dataclass(frozen=True)
class Batch:
    """Records that are sent together, under a key that they keep. Where they end is the queue's own business."""

    key: str
    records: tuple[Record, ...]
    end: tuple[int, int]


class Queue(Protocol):
    """Lines in the order in which they were told. One thread may append while another one does all the rest."""

    room: int
    is_durable: bool  # whether it outlives the process

    def append(self, line: bytes) -> None:
        """Add a line. Raises `QueueFullError` and `OSError`, and then has nothing of it."""

    def seal(self) -> None:
        """End the batch that is open."""

    def peek(self) -> Batch | None:
        """Return the first batch, `None` if there is none that is closed."""

    def peek_after(self, batch: Batch) -> Batch | None:
        """Return the one that will be the first when `batch` is settled, if that is known and closed."""

    def settle(self, batch: Batch) -> None:
        """Forget the first batch."""

    def has_more(self) -> bool:
        """Say whether there is anything behind what was settled."""

    def number_of(self, run: str) -> int | None:
        """Return the number of an attempt, if it was remembered."""

    def remember(self, run: str, number: int) -> None:
        """Keep the number of an attempt as long as the queue keeps what is told of it."""

    def forget(self, run: str) -> None:
        """Keep it no longer."""

    def tidy(self) -> None:
        """Do what is due from time to time."""

    def announce_end(self, has_ended: bool) -> None:
        """Say whether anything will be added."""

    def close(self) -> None:
        """Leave it to others."""

    def remove(self) -> None:
        """End the queue, of which everything is settled."""


class MemoryQueue:
    """A queue that ends with its process, of at most `room` bytes."""

    is_durable = False

    def __init__(self, room: int) -> None:
        self.room = room
        self._id = uuid4().hex
        self._lines: list[bytes] = []
        self._settled = 0  # lines, in all
        self._numbers: dict[str, int] = {}

    def append(self, line: bytes) -> None:
        """Add a line. Raises `QueueFullError`."""
        if len(line) > self.room:
            raise QueueFullError
        self.room -= len(line)
        self._lines.append(line)

    def seal(self) -> None:
        """End the batch that is open."""
        self._lines.append(SEAL)

    def peek(self) -> Batch | None:
        """Return the first batch, `None` if there is none that is closed."""
        found = self._gathered(0)
        if found.is_closed:
            return self._batch(found, self._settled)
        if not found.records:
            self._drop(found.next)  # seals
        return None

    def peek_after(self, batch: Batch) -> Batch | None:
        """Return the one that will be the first when `batch` is settled, if that is closed."""
        found = self._gathered(batch.end[1] - self._settled)
        return self._batch(found, batch.end[1]) if found.is_closed else None

    def settle(self, batch: Batch) -> None:
        """Forget the first batch."""
        count = batch.end[1] - self._settled
        self.room += sum(len(line) for line in self._lines[:count] if line != SEAL)
        self._drop(count)

    def has_more(self) -> bool:
        """Say whether there is anything behind what was settled."""
        return bool(self._lines)

    def number_of(self, run: str) -> int | None:
        """Return the number of an attempt, if it was remembered."""
        return self._numbers.get(run)

    def remember(self, run: str, number: int) -> None:
        """Keep the number of an attempt as long as the queue keeps what is told of it."""
        self._numbers[run] = number

    def forget(self, run: str) -> None:
        """Keep it no longer."""
        self._numbers.pop(run, None)

    def tidy(self) -> None:
        """Do what is due from time to time: nothing."""

    def announce_end(self, has_ended: bool) -> None:
        """Say whether anything will be added: there is nobody to hear it."""

    def close(self) -> None:
        """Leave it to others: there are none."""

    def remove(self) -> None:
        """End the queue."""
        self._lines.clear()

    def _gathered(self, begin: int) -> Gathered:
        # Seals can only stand between batches: more lines than this never matter.
        return gather([line[:-1] for line in self._lines[begin : begin + 2 * BATCH_SIZE]])

    def _batch(self, found: Gathered, begin: int) -> Batch:
        return Batch(f"{self._id}-{begin + found.first}", found.records, (0, begin + found.next))

    def _drop(self, count: int) -> None:
        del self._lines[:count]
        self._settled += count
