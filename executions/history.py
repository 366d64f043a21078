"""The partitions of the status history: one per month of UTC, made ahead of time, dropped whole when they are old.

A row that fits no month goes to the default partition, so an insert never fails; `add_partitions` sorts it in later.

Locks. Reporting and reading go on while a partition is made: its table is filled beside the others, and only the moment
in which it becomes one of them holds the default partition. Dropping one holds the whole history for a moment:
`DETACH ... CONCURRENTLY`, which would not, is refused where there is a default partition. The files are removed after
the locks are given back. Whoever waits for such a lock holds up all who come after. So nobody here waits for longer
than `PATIENCE` at a time: between two attempts the others go on.

What remains when history was dropped: outputs and attempts, as they are; nothing is calculated anew. A task without any
history left is like one that only ever reported attempts: these decide its state from then on, and queueing it appends
no row. If the `queued` of a stale task is gone before the task went on, the task stays stale until it is queued again.
"""

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from django.db import OperationalError, connection, transaction
from django.utils import timezone

from flowplatform.errors import sqlstate_of

T = TypeVar("T")

MONTHS_AHEAD = 2  # so that the beat may stand still for as long
PATIENCE = 0.2  # seconds; a status batch waits no longer than this and what follows
ATTEMPTS = 20
_HISTORY = "executions_taskstatus"
_LOCK_NOT_AVAILABLE = "55P03"

_PARTITIONS = """
    SELECT part.oid::regclass::text,
           (regexp_match(bounds, 'FROM \\(''(.+?)''\\)'))[1]::timestamptz,
           (regexp_match(bounds, 'TO \\(''(.+?)''\\)'))[1]::timestamptz,
           greatest(part.reltuples, pg_stat_get_live_tuples(part.oid), 0)::bigint,
           pg_total_relation_size(part.oid)
    FROM pg_inherits JOIN pg_class AS part ON part.oid = inhrelid,
         LATERAL pg_get_expr(part.relpartbound, part.oid) AS bounds
    WHERE inhparent = 'executions_taskstatus'::regclass
    ORDER BY 2 NULLS LAST, 1
"""


class HistoryBusyError(Exception):
    """The history was in use all the time, by a dump or a long transaction. Nothing was changed; try again later."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A part of the history, its rows estimated. Those from `begin` until before `end`; the default has neither."""

    name: str
    begin: datetime | None
    end: datetime | None
    rows: int
    size: int  # bytes, with indexes

    def touches(self, begin: datetime, end: datetime) -> bool:
        """Say whether a row of that time may be in here, other than for want of a better place."""
        if self.begin is None and self.end is None:
            return False
        return (self.begin is None or self.begin < end) and (self.end is None or begin < self.end)


def partitions() -> list[Partition]:
    """Return the partitions, oldest first, the default one last."""
    return [Partition(*row) for row in _rows(_PARTITIONS)]


def add_partitions(now: datetime | None = None) -> list[str]:
    """Make the partitions of this month, of the next ones, and of rows that are in the default one; return their names.

    Safe to run twice at once. Rows are moved without holding anybody up; then the default partition is locked for the
    few that have come meanwhile and for a scan that proves that none was left behind. Raises HistoryBusyError.
    """
    begin = month_of(now or timezone.now())
    wanted = {month for (month,) in _rows(f"SELECT flowplatform_misplaced_months('{_HISTORY}')")}
    for _ in range(1 + MONTHS_AHEAD):
        wanted.add(begin)
        begin = _next(begin)
    found = partitions()
    missing = [month for month in sorted(wanted) if not _is_there(month, found)]
    return [name for month in missing if (name := _add(month))]


def old_partitions(before: datetime) -> list[Partition]:
    """Return the partitions that lie wholly before a moment; never the default one."""
    return [partition for partition in partitions() if partition.end is not None and partition.end <= before]


def drop_partitions(before: datetime) -> Iterator[Partition]:
    """Drop the partitions that lie wholly before a moment; yield each when it is gone. Raises HistoryBusyError."""
    for partition in old_partitions(before):
        _patiently(lambda name=partition.name: _run(f"SELECT flowplatform_drop_partition('{_HISTORY}', '{name}')"))  # type: ignore[misc]
        yield partition


def month_of(moment: datetime) -> datetime:
    """Return the beginning of a moment's month in UTC."""
    return moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _next(month: datetime) -> datetime:
    return month_of(month + timedelta(days=31))


def _is_there(month: datetime, among: list[Partition]) -> bool:
    return any(partition.touches(month, _next(month)) for partition in among)


@transaction.atomic
def _add(month: datetime) -> str | None:
    """Make the partition of a month and return its name; `None` if somebody else did."""
    month = month_of(month)
    name = f"{_HISTORY}_{month:%Y_%m}"
    _run("SET LOCAL statement_timeout = 0")
    _patiently(lambda: _step("hold", month))
    if _is_there(month, partitions()):
        return None
    _step("create", month)
    _step("move", month)
    _patiently(lambda: _step("hold_default", month))
    _step("move", month)
    _step("attach", month)
    return name


def _step(step: str, month: datetime) -> None:
    """Take a step that only the owner of the history may: a function of the database takes it for us."""
    _run(f"SELECT flowplatform_partition_step('{_HISTORY}', '{step}', '{month.isoformat()}')")


def _patiently(change: Callable[[], T]) -> T:
    """Make a change of the caller's transaction, or by itself, again and again until it has its locks."""
    for _ in range(ATTEMPTS):
        try:
            with transaction.atomic():
                _run(f"SET LOCAL lock_timeout = {PATIENCE * 1000:.0f}")
                return change()
        except OperationalError as error:
            if sqlstate_of(error) != _LOCK_NOT_AVAILABLE:
                raise
        time.sleep(random.uniform(0.5, 1.5) * PATIENCE)
    raise HistoryBusyError


def _run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def _rows(sql: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows
