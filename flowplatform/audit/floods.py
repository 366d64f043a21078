"""How refusals are recorded that anybody can cause as often as they like: by how many there are, not each."""

import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock

WINDOW_SECONDS = 60.0
MOST_SOURCES = 50


@dataclass(slots=True)
class Flood:
    """Refusals of one kind in this process, counted per source and minute: the 1st, 10th, 100th, … is recorded.

    The first `MOST_SOURCES` sources of a minute are told apart; all others count as one. So a minute leaves a bounded
    number of rows, whoever asks from however many addresses, and a row says how many there were at the time.
    """

    begins_at: int = 1  # the first count that is recorded
    clock: Callable[[], float] = time.monotonic
    _counts: Counter[Hashable] = field(default_factory=Counter)
    _until: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def count(self, source: Hashable) -> dict[str, int | str] | None:
        """Count one more; return what its record says of that, `None` if it is not to be recorded."""
        with self._lock:
            if self.clock() >= self._until:
                self._counts.clear()
                self._until = self.clock() + WINDOW_SECONDS
            is_one_of_many = source not in self._counts and len(self._counts) >= MOST_SOURCES
            counted = None if is_one_of_many else source
            self._counts[counted] += 1
            count = self._counts[counted]
        if count < self.begins_at or not _is_power_of_ten(count):
            return None
        return {"count": count, **({"sources": "many"} if is_one_of_many else {})}


def _is_power_of_ten(count: int) -> bool:
    return str(count).strip("0") == "1"
