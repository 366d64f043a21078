"""The first page of the admin: how the platform does, in a few bounded questions, each of which may fail by itself.

The history has no index by time and gets none for a plot: it would be one more for every status to keep. It is asked by
its newest rows, which the index of its key gives; the page says how far back those reach.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from django.db import DatabaseError, InterfaceError, connection, transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from flowplatform.accounts.admin import SOON, in_words
from flowplatform.accounts.models import ServiceToken
from flowplatform.admin_lists import list_address
from notifications.lag import LagLine, read_lines

logger = logging.getLogger(__name__)

SAMPLE = 100_000  # statuses, the newest ones, that are looked at
TOP = 6  # organizations and tokens that are listed
PART_MILLISECONDS = 2_500  # that the database may take for one part of the page
FAILED = ("failed", "error")  # the statuses that count as failures

# Rows by the index of the key, from its end, before anything else is asked of them: with the time in the inner query a
# quiet day would have the whole history read.
_NEWEST = "SELECT * FROM executions_taskstatus ORDER BY position DESC LIMIT %(sample)s"

_MINUTES = f"""
    SELECT date_trunc('minute', created_at, 'UTC'), count(*), count(*) FILTER (WHERE status = ANY(%(failed)s))
    FROM ({_NEWEST}) AS newest GROUP BY 1 ORDER BY 1
"""  # noqa: S608  (made of our own names only)

_SLOWEST = f"""
    SELECT organization.id, organization.name, count(*),
           percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds), percentile_cont(0.95) WITHIN GROUP (ORDER BY seconds)
    FROM (
        SELECT organization_id, status, created_at,
               extract(epoch FROM lead(created_at) OVER same_task - created_at)::float8 AS seconds
        FROM ({_NEWEST}) AS newest WINDOW same_task AS (PARTITION BY flow_execution_id, task_name ORDER BY position)
    ) AS step
    JOIN accounts_organization AS organization ON organization.id = step.organization_id
    WHERE step.status = 'running' AND seconds IS NOT NULL AND step.created_at > %(since)s
    GROUP BY 1, 2 ORDER BY 5 DESC, 2 LIMIT %(top)s
"""  # noqa: S608  (made of our own names only)


@dataclass(frozen=True, slots=True)
class Window:
    """How far back the plots reach, and how many minutes each of their points is about."""

    name: str
    words: str
    minutes: int
    step: int


HOUR = Window("hour", "the last hour", 60, 1)
DAY = Window("day", "the last 24 hours", 24 * 60, 15)
WINDOWS = {window.name: window for window in (HOUR, DAY)}


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot: what it is called, the state that it has the colour of, and a value per point or `None`."""

    name: str
    state: str
    values: list[float | None]


@dataclass(frozen=True, slots=True)
class Plot:
    """A plot, as the page draws it and as its table tells it."""

    id: str
    title: str
    about: str
    unit: str
    times: list[datetime]
    series: list[Series]
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return what the script draws."""
        lines = [{"name": line.name, "state": line.state, "values": line.values} for line in self.series]
        return {"unit": self.unit, "times": [time.isoformat() for time in self.times], "series": lines}

    def rows(self) -> list[tuple[datetime, list[float | None]]]:
        """Return the table, newest first; points without any value are left out."""
        values = [list(row) for row in zip(*(line.values for line in self.series), strict=True)]
        told = [(time, row) for time, row in zip(self.times, values, strict=True) if any(row)]
        return told[::-1]

    def summary(self) -> str:
        """Say in a sentence what the plot shows."""
        said = []
        for line in self.series:
            known = [value for value in line.values if value is not None]
            said.append(f"{line.name}: at most {max(known):g} {self.unit}" if known else f"{line.name}: nothing known")
        return f"{self.title}. {'; '.join(said)}."


def add_to(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """Add to the context of the admin's first page what the person may know. `?window=day` reaches further back."""
    window = WINDOWS.get(request.GET.get("window", ""), HOUR)
    now = timezone.now()
    may = request.user.has_perm
    context |= {"windows": WINDOWS.values(), "window": window, "sample": f"{SAMPLE:,}"}
    if may("executions.view_taskstatus"):
        context["statuses"] = _part(lambda: status_plots(window, now))
        context["slowest"] = _part(lambda: slowest_organizations(now - timedelta(days=1)))
    if may("notifications.view_event"):
        context["delivery"] = _part(lambda: delivery_plots(window, now))
    if may("accounts.view_servicetoken"):
        context["tokens"] = _part(lambda: tokens_to_look_at(now))
    return context


class Missing:
    """Stands for a part of the page that could not be had in time."""

    is_missing = True


def _part(ask: Callable[[], Any]) -> Any:
    """Return a part of the page. A question that fails or takes too long takes nothing down with it."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL statement_timeout = {PART_MILLISECONDS}")
            found = ask()
            cursor.execute("SET LOCAL statement_timeout TO DEFAULT")
            return found
    except (DatabaseError, InterfaceError, redis.RedisError):
        logger.exception("a part of the dashboard is missing")
        return Missing()


# --- Statuses ------------------------------------------------------------------------------------------------------


def status_plots(window: Window, now: datetime) -> list[Plot]:
    """Return the statuses and the failures per minute, by the newest `SAMPLE` rows of the history."""
    minutes = [(time, total, failed) for time, total, failed in _rows(_MINUTES, failed=list(FAILED))]
    is_cut = sum(total for _, total, _ in minutes) >= SAMPLE
    reach = minutes[0][0] if is_cut else None
    times = _points(window, now)
    note = ""
    if reach and reach > times[0]:
        note = f"The newest {SAMPLE:,} statuses begin at {reach:%H:%M} UTC; nothing is known of the time before."
    totals = _per_minute(window, times, [(time, total) for time, total, _ in minutes], reach)
    failures = _per_minute(window, times, [(time, failed) for time, _, failed in minutes], reach)
    return [
        Plot(
            "statuses",
            "Statuses per minute",
            "What workers and people reported, of every organization.",
            "per minute",
            times,
            [Series("Statuses", "running", totals)],
            note,
        ),
        Plot(
            "failures",
            "Failures per minute",
            "Statuses that say failed or error.",
            "per minute",
            times,
            [Series("Failures", "failed", failures)],
            note,
        ),
    ]


def _rows(sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, {"sample": SAMPLE, **parameters})
        rows: list[tuple[Any, ...]] = cursor.fetchall()
        return rows


def _points(window: Window, now: datetime) -> list[datetime]:
    """Return the beginnings of a plot's steps, oldest first; the one that is going on is left out."""
    seconds = window.step * 60
    end = int(now.timestamp()) // seconds * seconds
    count = window.minutes // window.step
    return [datetime.fromtimestamp(end - seconds * back, UTC) for back in range(count, 0, -1)]


def _per_minute(
    window: Window, times: list[datetime], counts: Iterable[tuple[datetime, int]], reach: datetime | None
) -> list[float | None]:
    """Return the mean count per minute of each step; `None` for what lies before `reach`."""
    sums: dict[datetime, int] = {}
    for time, count in counts:
        begin = _step_of(time, window)
        sums[begin] = sums.get(begin, 0) + count
    return [None if reach and time < reach else round(sums.get(time, 0) / window.step, 2) for time in times]


def _step_of(time: datetime, window: Window) -> datetime:
    seconds = window.step * 60
    return datetime.fromtimestamp(int(time.timestamp()) // seconds * seconds, UTC)


# --- Organizations -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slow:
    """An organization by how long its tasks ran."""

    name: str
    address: str
    runs: int
    median: float  # seconds
    p95: float


def slowest_organizations(since: datetime) -> list[Slow]:
    """Return the organizations whose tasks ran longest: from `running` to the next status of the same task."""
    rows = _rows(_SLOWEST, since=since, top=TOP)
    return [
        Slow(name, list_address("executions_flowexecution", organization=pk), runs, median, p95)
        for pk, name, runs, median, p95 in rows
    ]


# --- Delivery ------------------------------------------------------------------------------------------------------


def delivery_plots(window: Window, now: datetime) -> list[Plot]:
    """Return the backlog and the relay lag, as the workers' sweeps left them minute by minute."""
    times = _points(window, now)
    steps: dict[datetime, list[LagLine]] = {}
    for line in read_lines():
        steps.setdefault(_step_of(datetime.fromtimestamp(line.minute * 60, UTC), window), []).append(line)
    by_step = [steps.get(time, []) for time in times]
    relayed = [[line for line in lines if line.events] for lines in by_step]
    mean = [_ratio(sum(line.total for line in lines), sum(line.events for line in lines)) for lines in relayed]
    return [
        Plot(
            "backlog",
            "Events waiting for a number",
            "At the end of each minute, the most in a point.",
            "events",
            times,
            [Series("Waiting", "awaiting", [_most(line.waiting for line in lines) for lines in by_step])],
        ),
        Plot(
            "lag",
            "Relay lag",
            "From the change of an event to its number, as workers measured it.",
            "ms",
            times,
            [
                Series("Longest", "awaiting", [_most(line.longest for line in lines) for lines in relayed]),
                Series("Mean", "completed", mean),
            ],
        ),
    ]


def _most(values: Iterable[float]) -> float | None:
    most = max(values, default=None)
    return None if most is None else round(most, 1)


def _ratio(total: float, count: int) -> float | None:
    return round(total / count, 1) if count else None


# --- Tokens --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TokenNote:
    """A token that somebody should look at, and why."""

    token: ServiceToken
    why: str


def tokens_to_look_at(now: datetime) -> dict[str, Any]:
    """Return the tokens that end soon, the next one first, and those that were never used, the oldest first."""
    valid = ServiceToken.objects.filter(revoked=False).select_related("service_account__organization")
    ending = valid.filter(expiry_date__gt=now, expiry_date__lte=now + SOON).order_by("expiry_date")
    unused = valid.exclude(expiry_date__lte=now + SOON).filter(last_used_at=None).order_by("created")
    return {
        "ending": [TokenNote(token, f"ends {in_words(token.expiry_date)}") for token in _top(ending)],  # type: ignore[arg-type]
        "unused": [TokenNote(token, f"made {in_words(token.created)}, never used") for token in _top(unused)],
    }


def _top(tokens: "QuerySet[ServiceToken]") -> list[ServiceToken]:
    return list(tokens[:TOP])
