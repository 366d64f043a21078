"""How long events wait for their number, minute by minute, for the dashboard of the admin.

Nothing is stored with an event when it is numbered, and a column for it would be one more write to every row of the
log. So a worker adds up in memory what it relays, and the sweep, which comes every second anyway, leaves a line a
minute in a list in Valkey: no table, no migration, and nothing waits for it. What is lost with Valkey are lines of a
plot. Live processes number what the workers leave; that is in the backlog of the minute, but not in its lag.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any
from uuid import UUID

import orjson
import redis
from django.conf import settings
from django.utils import timezone
from pydantic import TypeAdapter, ValidationError

from flowplatform import metrics
from notifications.backlog import read_backlog
from notifications.relay import EventRow

logger = logging.getLogger(__name__)

KEY = "flowplatform:relay-lag"
LINES = 5_000  # kept: a day of three workers
DAY = 86_400  # seconds


@dataclass(frozen=True, slots=True)
class LagLine:
    """What one worker relayed in a minute, and the backlog at the end of it. Times in milliseconds."""

    minute: int  # since 1970
    events: int
    total: float
    longest: float
    waiting: int
    oldest: float


def observe(numbered: Mapping[UUID, Iterable[EventRow]], stage: str) -> list[float]:
    """Tell Prometheus for how long events waited until now, which is a stage of their way; return it in seconds."""
    now, lag = timezone.now(), metrics.relay_lag.labels(stage)
    lags = [max(0.0, (now - row[3]).total_seconds()) for rows in numbered.values() for row in rows]
    for seconds in lags:
        lag.observe(seconds)
    return lags


class LagMeter:
    """Adds up the lag of what this process relays; a line a minute goes to Valkey."""

    def __init__(self, write: Callable[[LagLine], None], clock: Callable[[], float] = time.time) -> None:
        self._write, self._clock = write, clock
        self._lock = threading.Lock()
        self._begin_minute()

    def _begin_minute(self) -> None:
        self._minute = int(self._clock() // 60)
        self._events, self._total, self._longest = 0, 0.0, 0.0

    def note(self, numbered: Mapping[UUID, Iterable[EventRow]]) -> None:
        """Count events that were numbered and sent just now."""
        lags = observe(numbered, "sent")
        with self._lock:
            self._events += len(lags)
            self._total += sum(lags) * 1e3
            self._longest = max(self._longest, max(lags, default=0.0) * 1e3)

    def flush(self) -> None:
        """Write the line of a minute that is over. Never raises: a plot is not worth a relay."""
        with self._lock:
            if int(self._clock() // 60) == self._minute:
                return
            minute, events, total, longest = self._minute, self._events, self._total, self._longest
            self._begin_minute()
        try:
            backlog = read_backlog()
            oldest = backlog.oldest.total_seconds() * 1e3
            self._write(LagLine(minute, events, total, longest, backlog.waiting, oldest))
        except Exception as error:
            logger.warning("the relay lag of a minute is lost: %s", error)


def _client() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5)


def write_line(line: LagLine) -> None:
    """Append a line to the list. Raises redis.RedisError."""
    with _client() as client:
        commands = client.pipeline(transaction=False)
        commands.rpush(KEY, orjson.dumps(asdict(line)))
        commands.ltrim(KEY, -LINES, -1)
        commands.expire(KEY, DAY)
        commands.execute()


_line = TypeAdapter(LagLine)


def read_lines() -> list[LagLine]:
    """Return what is kept and can be read, oldest first. Raises redis.RedisError."""
    with _client() as client:
        texts: Any = client.lrange(KEY, 0, -1)
    return list(_readable(texts))


def _readable(texts: Iterable[bytes]) -> Iterator[LagLine]:
    for text in texts:
        with suppress(ValidationError):  # another version's, or not ours
            yield _line.validate_json(text)


lag_meter = LagMeter(write_line)
