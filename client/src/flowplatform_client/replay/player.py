"""The player: reports the schedule of one or more executions as time passes, in batches, and measures the answers."""

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from flowplatform_client.client import FlowPlatform
from flowplatform_client.endpoints import BATCH_SIZE
from flowplatform_client.models import StatusUpdate
from flowplatform_client.replay.schedule import Due, in_batches

TICK_SECONDS = 0.02
MAX_CONNECTIONS = 16

OnSent = Callable[[int], None]


@dataclass
class Played:
    """What was sent. Latencies are seconds from sending a batch to its answer, retries included."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def batches(self) -> int:
        """How many requests carried the statuses."""
        return len(self.latencies)

    def latency_ms(self, percent: float) -> float:
        """Return the latency that this share of the batches did not exceed, in milliseconds (nearest rank)."""
        ordered = sorted(self.latencies)
        return ordered[math.ceil(len(ordered) * percent / 100) - 1] * 1000


class _Part:
    """One execution's way through the schedule. At most one batch of it is on its way, so its order is kept."""

    def __init__(self, execution_id: str, updates: Sequence[Due]) -> None:
        self.execution_id = execution_id
        self.sending: Future[None] | None = None
        self._updates = updates
        self._taken = 0

    @property
    def is_over(self) -> bool:
        """Whether every status has been taken for sending."""
        return self._taken == len(self._updates)

    def wait(self) -> None:
        """Return when nothing is on its way; raise what sending raised."""
        if self.sending:
            self.sending.result()

    def take_due(self, now: float) -> list[StatusUpdate]:
        """Return what became due since the last time."""
        start = self._taken
        while self._taken < len(self._updates) and self._updates[self._taken].at <= now:
            self._taken += 1
        return [due.update for due in self._updates[start : self._taken]]


class Player:
    """Plays the schedule for several executions at once: one clock, and a small pool of threads that send.

    `on_sent` is told, from any thread, how many statuses were just answered.
    """

    def __init__(
        self, platform: FlowPlatform, execution_ids: Sequence[str], updates: Sequence[Due], on_sent: OnSent
    ) -> None:
        self._platform = platform
        self._parts = [_Part(execution_id, updates) for execution_id in execution_ids]
        self._on_sent = on_sent
        self._played = Played()
        self._is_stopped = False

    def play(self) -> Played:
        """Report everything when it is due; return when the last answer is there.

        Raises `ApiError` or `ConnectionFailedError` of the first batch that failed for good.
        """
        started = time.perf_counter()
        with ThreadPoolExecutor(min(len(self._parts), MAX_CONNECTIONS)) as pool:
            try:
                self._play(pool, started)
            except BaseException:  # a failure, or a person's Ctrl-C: nothing more is sent
                self._is_stopped = True
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        self._played.seconds = time.perf_counter() - started
        return self._played

    def _play(self, pool: ThreadPoolExecutor, started: float) -> None:
        while not all(part.is_over for part in self._parts):
            self._send_due(pool, time.perf_counter() - started)
            time.sleep(TICK_SECONDS)
        for part in self._parts:
            part.wait()

    def _send_due(self, pool: ThreadPoolExecutor, now: float) -> None:
        for part in self._parts:
            if part.sending and not part.sending.done():
                continue  # what is due meanwhile goes with the next batch
            part.wait()
            if updates := part.take_due(now):
                part.sending = pool.submit(self._send, part.execution_id, updates)

    def _send(self, execution_id: str, updates: Sequence[StatusUpdate]) -> None:
        for batch in in_batches(updates, BATCH_SIZE):
            if self._is_stopped:
                return
            sent_at = time.perf_counter()
            self._platform.statuses.add(execution_id, batch)
            self._played.latencies.append(time.perf_counter() - sent_at)
            self._on_sent(len(batch))
