"""Which runs of a flow somebody wants to see: the filters of the list and of its export, as the address says them."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from urllib.parse import urlencode
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from django.http import QueryDict

from executions.models import ExecutionStatus
from flowplatform.pages.run_states import STATES, meaning_of

STATE_CHOICES = tuple(state for state in STATES if state not in ("unreported", "skipped"))  # those that a run can have
_LONGEST_TAG = 301  # a type, a colon and a tag
_FIRST_DAY, _LAST_DAY = date(1970, 1, 1), date(9000, 1, 1)


@dataclass(frozen=True)
class RunFilter:
    """What runs have to be. `begin` and `end` bound when they were queued; the end itself is left out."""

    states: frozenset[str] = frozenset()
    tag: str = ""
    begin: datetime | None = None
    end: datetime | None = None
    given: dict[str, str] = field(default_factory=dict)  # the dates and their zone as they were written
    problems: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether it lets everything pass."""
        return not (self.states or self.tag or self.given)

    @property
    def statuses(self) -> list[str] | None:
        """Own statuses that a run of these states may have. While it is `queued`, its tasks tell its state."""
        if not self.states:
            return None
        meant = [status.value for status in ExecutionStatus if meaning_of(status.value).state in self.states]
        return sorted({*meant, ExecutionStatus.QUEUED.value})

    @property
    def query(self) -> str:
        """The filter as the query of an address."""
        pairs = [("status", state) for state in STATE_CHOICES if state in self.states]
        pairs += [("tag", self.tag)] if self.tag else []
        return urlencode([*pairs, *self.given.items()])


def run_filter(query: QueryDict) -> RunFilter:
    """Read the filter from an address; what cannot be understood is one of its `problems`."""
    problems: list[str] = []
    states = [text for value in query.getlist("status") for text in value.split(",") if text]
    problems += [f"“{state}” is not a state of a run." for state in states if state not in STATE_CHOICES]
    tag = query.get("tag", "").strip()
    if "\0" in tag or len(tag) > _LONGEST_TAG:
        problems.append("No tag is like that.")
    zone = _zone(query.get("zone", ""))
    begin = _day(query.get("from", ""), zone, problems)
    end = _day(query.get("to", ""), zone, problems, plus=timedelta(days=1))
    if begin and end and begin >= end:
        problems.append("The first day is after the last one.")
    names = ("from", "to", "zone") if query.get("from") or query.get("to") else ()
    given = {name: text for name in names if (text := query.get(name))}
    return RunFilter(frozenset(states), tag, begin, end, given, tuple(problems))


def _zone(name: str) -> tzinfo:
    """Return the reader's time zone, which a script of the page adds to the dates; UTC without one."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


def _day(text: str, zone: tzinfo, problems: list[str], plus: timedelta = timedelta(0)) -> datetime | None:
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        problems.append(f"“{text}” is not a date. Write it like 2026-03-01.")
        return None
    if not _FIRST_DAY <= day <= _LAST_DAY:
        problems.append(f"“{text}” is too far away.")
        return None
    return datetime.combine(day + plus, time(), zone)
