"""What waits for a number: how many events, for how long, and whether that is a fault."""

from dataclasses import dataclass
from datetime import timedelta

from django.db import connection

from flowplatform import metrics

# The sweep takes everything older than a second, every second: what waits for longer than this is not being relayed.
LATE = timedelta(seconds=5)

OLDEST = """
    SELECT coalesce(clock_timestamp() - min(created_at), interval '0') FROM notifications_event WHERE "offset" IS NULL
"""

# Reads the outbox's index, which holds nothing but what waits.
_READ = """
    SELECT count(*), count(DISTINCT flow_id), coalesce(clock_timestamp() - min(created_at), interval '0')
    FROM notifications_event WHERE "offset" IS NULL
"""


@dataclass(frozen=True, slots=True)
class Backlog:
    """The events without a number: how many, of how many flows, and how long the oldest one has waited."""

    waiting: int
    flows: int
    oldest: timedelta

    @property
    def is_late(self) -> bool:
        """Say whether the oldest event waits for so long that something must be broken."""
        return self.oldest > LATE


def read_backlog() -> Backlog:
    """Return what waits now, of every flow."""
    with connection.cursor() as cursor:
        cursor.execute(_READ)
        return Backlog(*cursor.fetchone())


def note_backlog() -> None:
    """Tell Prometheus what waits now."""
    backlog = read_backlog()
    metrics.events_waiting.set(backlog.waiting)
    metrics.events_oldest.set(backlog.oldest.total_seconds())


def as_text(age: timedelta) -> str:
    """Return an age for people: `0.4 s`, and `0:03:20` from a minute on."""
    seconds = age.total_seconds()
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=int(seconds)))
