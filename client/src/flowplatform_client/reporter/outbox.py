"""Where callers leave what they tell: a queue with a lock, what is kept while it is full, and a bell for the thread."""

import logging
import math
import threading
import time
from queue import Empty, SimpleQueue

from flowplatform_client.reporter.queues import Batch, Queue, QueueFullError
from flowplatform_client.reporter.records import Record, line_of, merged, record_of, without_documents

MOST_SUBJECTS = 10_000  # whose newest word is kept in memory while the queue is full

_log = logging.getLogger("flowplatform_client.reporter")


class Outbox:
    """What a reporter was told and the platform does not have yet.

    The lock is reentrant, and nothing is logged and nobody waits while it is held: a signal handler or a finalizer may
    report in the middle of a report.

    While the queue is full only the newest word about each task, each attempt and the execution is kept, in memory, of
    10,000 of them at most and without the documents of attempts. So states come out right in the end, although the
    history has a gap.
    """

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.hurries = 0
        self.is_retired = False
        self.left_out = 0  # records for which there was no room, in all
        self._without_documents = 0  # records that lost them for want of room
        self._has_ended = False
        self._is_hurried = False
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._bell: SimpleQueue[None] = SimpleQueue()  # unlike an event, a signal handler may always ring it
        self._ring_at: float = math.inf
        self._told = 0  # records
        self._settled = 0
        self._failures = 0
        self._kept: dict[tuple[str, ...], Record] = {}
        self._admitted = 0  # of what was left out, what the log has

    # --- Of those who tell -----------------------------------------------------------------------------------------

    def put(self, line: bytes) -> bool:
        """Take a line; return false if the thread has ended, so that another outbox is needed."""
        with self._lock:
            if self.is_retired and not self._comes_back():
                return False
            self._told += 1
            if self._kept:
                self._keep(line)
            else:
                try:
                    self.queue.append(line)
                except (QueueFullError, OSError):
                    self._keep(line)
            if self._told >= self._ring_at:
                self._ring_at = math.inf
                self._bell.put(None)
        return True

    def retire(self) -> None:
        """Have the thread end when everything is sent, unless more is told meanwhile."""
        with self._lock:
            if not self.is_retired:
                self.is_retired = True
                self.queue.announce_end(True)
        self.hurry()

    def hurry(self) -> None:
        """Have everything sent at once."""
        self.hurries += 1
        self._is_hurried = True
        self._bell.put(None)

    def wait(self, seconds: float, *, also_while_away: bool) -> bool:
        """Wait until everything that was told by now is settled; say whether it is.

        Without `also_while_away` this ends when the server fails to take a batch.
        """
        deadline = time.monotonic() + seconds
        with self._lock:
            target, failures = self._told, self._failures
            if self._settled < target:
                self.hurry()
            while self._settled < target:
                left = deadline - time.monotonic()
                if left <= 0 or (self._failures > failures and not also_while_away):
                    return False
                self._changed.wait(left)
        return True

    def _comes_back(self) -> bool:
        """Go on after the retirement, if the thread is still there."""
        if not self._has_ended:
            self.is_retired = False
            self.queue.announce_end(False)
        return not self._has_ended

    def _keep(self, line: bytes) -> None:
        """Keep the newest word of a subject beside the queue."""
        record = record_of(line)
        if record is None:
            return
        bare = without_documents(record)
        self._without_documents += bare is not record
        older = self._kept.pop(bare.subject, None)
        record = bare if older is None else merged(older, bare)
        if older is not None or len(self._kept) >= MOST_SUBJECTS:
            self.left_out += 1
            self._settled += 1
        if older is not None or len(self._kept) < MOST_SUBJECTS:
            self._kept[record.subject] = record

    # --- Of the thread that sends ----------------------------------------------------------------------------------

    @property
    def unsent(self) -> int:
        """How many records wait."""
        return self._told - self._settled

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for the end of what was told."""
        return self.is_retired or self._is_hurried

    @property
    def is_overfull(self) -> bool:
        """Whether something is kept beside the queue."""
        return bool(self._kept)

    def settle(self, batch: Batch) -> None:
        """Forget the first batch."""
        with self._lock:
            self.queue.settle(batch)
            self._settled += len(batch.records)
            # A signal that raises between a write and its count makes the counts differ.
            self._told = max(self._told, self._settled)
            self._is_hurried = self._is_hurried and self.unsent > 0
            self._changed.notify_all()

    def failed(self) -> None:
        """Tell those who wait that the server did not take a batch."""
        with self._lock:
            self._failures += 1
            self._changed.notify_all()

    def tidy(self) -> None:
        """Do what is due from time to time, and queue what was kept while there was no room."""
        with self._lock:
            try:
                self.queue.tidy()
                while self._kept:
                    subject, record = next(iter(self._kept.items()))
                    self.queue.append(line_of(record))
                    del self._kept[subject]
            except (QueueFullError, OSError):
                pass  # later
            new, self._admitted = self.left_out - self._admitted, self.left_out
            bare, self._without_documents = self._without_documents, 0
        if new:
            _log.error("there was no room for %d reports: newer words about the same tasks count instead, if any", new)
        if bare:
            _log.error("there was no room for input, output and error of attempts: %d reports are without", bare)

    def sleep(self, seconds: float, ring_at: float) -> None:
        """Sleep until the bell rings: when `ring_at` records wait, or when somebody is in a hurry."""
        with self._lock:
            if self.unsent >= ring_at:
                return
            self._ring_at = self._settled + ring_at
        try:
            self._bell.get(timeout=max(0.0, seconds))
            while True:
                self._bell.get_nowait()
        except Empty:
            pass

    def ends(self, *, with_what_is_left: bool) -> bool:
        """Say whether the reporter is retired and nothing is left. From then on nothing is taken any more.

        `with_what_is_left` it ends all the same, if that outlives the process.
        """
        if not self.is_retired:
            return False
        with self._lock:
            is_left = bool(self._kept) or (self.queue.has_more() and not (with_what_is_left and self.queue.is_durable))
            self._has_ended = self.is_retired and not is_left
            return self._has_ended
