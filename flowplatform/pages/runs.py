"""Runs as lists show them: an execution, how far its tasks are, and how long it took.

What the tasks say is counted for many runs by one statement. It reads a row per task, so who shows many runs asks for
those `within` a number of tasks.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

from executions.models import FlowExecution
from flowplatform.encoding import array_of
from flowplatform.pages.humane import duration
from flowplatform.pages.reading import fetched
from flowplatform.pages.run_states import ACTIVE, STATES, Meaning, count_states, meaning_of_run, sentence

Version = tuple[UUID, int]  # of which flow, and its number

COLUMNS = ("id", "flow_id", "flow_version", "run_number", "status", "created_at", "updated_at")
_LEAST_WIDTH = 2.0  # per cent of a bar: one failed task of a thousand is still seen
_GAP = 0.6

# Lateral, so that the index is asked for each run, whatever the planner believes.
_REPORTED = """
    SELECT run.id, reported.*
    FROM unnest(%s::uuid[]) AS run (id), LATERAL (
        SELECT processing_status, count(*), min(created_at), max(updated_at)
        FROM executions_taskoutput WHERE flow_execution_id = run.id
        GROUP BY processing_status
    ) AS reported
"""

_TASK_COUNTS = """
    SELECT flow_id, number, jsonb_array_length(definition -> 'tasks')
    FROM unnest(%s::uuid[], %s::int[]) AS version (flow, wanted)
         JOIN executions_flowversion ON flow_id = version.flow AND number = version.wanted
"""


class Execution(NamedTuple):
    """What lists read of an execution, in the order of `COLUMNS`."""

    id: UUID
    flow_id: UUID
    flow_version: int
    run_number: int
    status: str
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, execution: FlowExecution) -> "Execution":
        """Reduce a model's row to it."""
        return cls(*(getattr(execution, name) for name in COLUMNS))

    @property
    def version(self) -> Version:
        """The version that it is pinned to."""
        return self.flow_id, self.flow_version


@dataclass(slots=True)
class Reported:
    """What the tasks of an execution say: how many which status, and from when to when."""

    statuses: dict[str | None, int] = field(default_factory=dict)
    first_at: datetime | None = None
    last_at: datetime | None = None

    def add(self, status: str | None, count: int, first_at: datetime, last_at: datetime) -> None:
        """Take the tasks with one status."""
        self.statuses[status] = count
        self.first_at = min(first_at, self.first_at or first_at)
        self.last_at = max(last_at, self.last_at or last_at)


class Segment(NamedTuple):
    """A part of a bar, in per cent of it."""

    state: str
    start: str
    width: str


@dataclass(frozen=True)
class Run:
    """An execution and what its tasks make of it."""

    execution: Execution
    task_count: int
    reported: Reported

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many tasks are in each state."""
        return count_states(self.reported.statuses, self.task_count)

    @cached_property
    def meaning(self) -> Meaning:
        """What it does."""
        return meaning_of_run(self.execution.status, self.counts, self.task_count)

    @property
    def is_active(self) -> bool:
        """Whether it is not over."""
        return self.meaning.state in ACTIVE

    @property
    def started_at(self) -> datetime | None:
        """When its first task reported."""
        return self.reported.first_at

    @property
    def ended_at(self) -> datetime | None:
        """When its last task reported, once it is over."""
        return None if self.is_active else self.reported.last_at

    @property
    def took(self) -> timedelta | None:
        """From its first to its last report, once it is over."""
        if self.started_at is None or self.ended_at is None:
            return None
        return self.ended_at - self.started_at

    @property
    def changed_at(self) -> datetime:
        """When something last changed."""
        return max(self.execution.updated_at, self.reported.last_at or self.execution.updated_at)

    @property
    def sentence(self) -> str:
        """What its tasks are, in words."""
        return sentence(self.counts)

    @property
    def title(self) -> str:
        """The run in a few words: "Run 42: failed, 2 m 14 s"."""
        took = "" if self.took is None else f", {duration(self.took)}"
        return f"Run {self.execution.run_number}: {self.meaning.word}{took}"

    @property
    def segments(self) -> list[Segment]:
        """Its tasks by state as parts of a bar."""
        shown = [(state, self.counts[state]) for state in STATES if self.counts[state]]
        whole = sum(count for _, count in shown)
        widths = [max(_LEAST_WIDTH, 100 * count / whole) for _, count in shown]
        scale = (100 - _GAP * (len(shown) - 1)) / sum(widths) if widths else 0
        segments, start = [], 0.0
        for (state, _), width in zip(shown, widths, strict=True):
            segments.append(Segment(state, f"{start:.2f}%", f"{width * scale:.2f}%"))
            start += width * scale + _GAP
        return segments


def runs_of(executions: Sequence[Execution]) -> list[Run]:
    """Return executions with what their tasks say, in the same order; one query, and one for versions never seen."""
    counts = task_counts({execution.version for execution in executions})
    reported = _reported([execution.id for execution in executions])
    return [Run(execution, counts[execution.version], reported[execution.id]) for execution in executions]


def within(executions: Iterable[Execution], task_limit: int) -> list[Execution]:
    """Return the first executions that have at most `task_limit` tasks together, the very first one in any case."""
    executions = list(executions)
    counts = task_counts({execution.version for execution in executions})
    left = task_limit
    found: list[Execution] = []
    for execution in executions:
        left -= counts[execution.version]
        if left < 0 and found:
            break
        found.append(execution)
    return found


def _reported(execution_ids: Collection[UUID]) -> Mapping[UUID, Reported]:
    found: dict[UUID, Reported] = defaultdict(Reported)
    if execution_ids:
        for execution_id, status, count, first_at, last_at in fetched(_REPORTED, [array_of(map(str, execution_ids))]):
            found[execution_id].add(status, count, first_at, last_at)
    return found


_counts: dict[Version, int] = {}  # versions never change
_MOST_REMEMBERED = 10_000


def task_counts(versions: Collection[Version]) -> dict[Version, int]:
    """Return how many tasks flow versions have; a query for those that this process has not seen.

    They are counted in the database: a definition may be large, and only its size is shown.
    """
    known = {version: count for version in versions if (count := _counts.get(version)) is not None}
    unknown = [version for version in versions if version not in known]
    if unknown:
        flows, numbers = zip(*unknown, strict=True)
        rows = fetched(_TASK_COUNTS, [array_of(map(str, flows)), array_of(map(str, numbers))])
        found = {(flow_id, number): count for flow_id, number, count in rows}
        if len(_counts) + len(found) > _MOST_REMEMBERED:
            _counts.clear()
        _counts.update(found)
        known |= found
    return known
