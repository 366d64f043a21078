"""The runs of a flow in order, filtered: a page of them, or all for an export.

Executions come from the index of their creation, after a position: a page costs the same however deep it is. What a
badge shows is known only once the tasks of a run are counted, and a tag once it is looked up, so both are asked of the
candidates and not of the database as a whole. A page looks at a bounded number of them; if the filter lets too few
pass, it says so and from where to look further.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from executions.models import Flow
from flowplatform.cursors import decode_cursor, encode_cursor
from flowplatform.encoding import array_of
from flowplatform.pages.reading import fetched
from flowplatform.pages.run_filter import RunFilter
from flowplatform.pages.runs import COLUMNS, Execution, Run, runs_of, task_counts

PAGE_SIZE = 50
LOOKED_AT = 5_000  # executions, for one page
TASKS_LOOKED_AT = 50_000  # counted for one page; a page of runs with very many tasks is shorter
_CHUNK = 1_000
_RUNS_COUNTED, _TASKS_COUNTED = 200, 20_000  # by one statement

# `LIMIT 1` keeps the planner from reading all tags of everybody first.
_CANDIDATES = """
    WITH candidate AS MATERIALIZED (
        SELECT {columns} FROM executions_flowexecution
        WHERE flow_id = %(flow)s AND status <> 'deleted' {within}
        ORDER BY created_at {order}, id {order} LIMIT %(limit)s
    )
    SELECT candidate.*, (%(statuses)s::text[] IS NULL OR status = ANY (%(statuses)s::text[])) AND {tagged}
    FROM candidate {tags}
    ORDER BY created_at {order}, id {order}
"""
_TAGS = """
    LEFT JOIN LATERAL (
        SELECT true AS found FROM tags_tasktag
        WHERE flow_execution_id = candidate.id AND tags_tasktag.status = 'active'
          AND (tag = %(text)s OR tag_type = %(tag_type)s AND tag = %(tag)s)
        LIMIT 1
    ) AS tagged ON true
"""


@dataclass(frozen=True, slots=True)
class Position:
    """A place between two runs, and the direction in which to go on from there."""

    created_at: datetime
    id: UUID
    is_newer: bool = False

    @classmethod
    def beside(cls, execution: Execution, *, is_newer: bool = False) -> "Position":
        """Return the place after an execution, or before it."""
        return cls(execution.created_at, execution.id, is_newer)

    def cursor(self, flow: Flow) -> str:
        """Write it for an address."""
        return encode_cursor(_place(flow), [self.is_newer, self.created_at.isoformat(), str(self.id)])


def position_of(flow: Flow, cursor: str) -> Position:
    """Read a position from an address; raise 400 if it is none of this flow."""
    is_newer, created_at, execution_id = decode_cursor(_place(flow), cursor)
    return Position(datetime.fromisoformat(created_at), UUID(execution_id), is_newer)


def _place(flow: Flow) -> str:
    return f"runs of {flow.pk}"


@dataclass(frozen=True)
class RunPage:
    """Runs, newest first, and where to go on; `is_cut` if the page is not full because enough was looked at."""

    runs: list[Run]
    newer: Position | None
    older: Position | None
    is_cut: bool = False


def run_page(flow: Flow, wanted: RunFilter, position: Position | None) -> RunPage | None:
    """Return the runs that follow a position; `None` if nothing newer is left: then it is the first page's turn."""
    found: list[Run] = []
    looked_at = tasks = 0
    last: Execution | None = None
    is_full = False
    for execution, run, counted in walk(flow.pk, wanted, position, first_chunk=PAGE_SIZE + 1):
        if run and len(found) == PAGE_SIZE:
            is_full = True
            break
        if looked_at >= LOOKED_AT or (tasks + counted > TASKS_LOOKED_AT and last):
            return _page(found, position, last, is_cut=len(found) < PAGE_SIZE)
        looked_at, tasks, last = looked_at + 1, tasks + counted, execution
        found += [run] if run else []
    if position and position.is_newer and not is_full:
        return None
    return _page(found, position, found[-1].execution if is_full else None)


def _page(found: list[Run], begin: Position | None, last: Execution | None, *, is_cut: bool = False) -> RunPage:
    """Put a page together. `last` is the execution to go on after in the direction of reading, if there is more."""
    if begin and begin.is_newer:
        older = Position.beside(found[0].execution) if found else None
        return RunPage(found[::-1], last and Position.beside(last, is_newer=True), older, is_cut)
    newer = Position.beside(found[0].execution, is_newer=True) if begin and found else None
    return RunPage(found, newer, last and Position.beside(last), is_cut)


def walk(
    flow_id: UUID, wanted: RunFilter, position: Position | None = None, *, first_chunk: int | None = None
) -> Iterator[tuple[Execution, Run | None, int]]:
    """Yield the executions of a flow from a position on: each with its run if that is wanted, and the tasks counted."""
    size = first_chunk or _CHUNK
    is_newer = position is not None and position.is_newer
    while True:
        candidates = _candidates(flow_id, wanted, position, size)
        yield from _judged(candidates, wanted)
        if len(candidates) < size:
            return
        position, size = Position.beside(candidates[-1][0], is_newer=is_newer), _CHUNK


Candidate = tuple[Execution, bool]  # and whether it may be wanted


def _candidates(flow_id: UUID, wanted: RunFilter, position: Position | None, limit: int) -> list[Candidate]:
    is_newer = position is not None and position.is_newer
    tag_type, _, tag = wanted.tag.partition(":")
    within = ["AND created_at >= %(begin)s"] if wanted.begin else []
    within += ["AND created_at < %(end)s"] if wanted.end else []
    within += [f"AND (created_at, id) {'>' if is_newer else '<'} (%(at)s, %(id)s)"] if position else []
    sql = _CANDIDATES.format(
        columns=", ".join(COLUMNS),
        within=" ".join(within),
        order="ASC" if is_newer else "DESC",
        tags=_TAGS if wanted.tag else "",
        tagged="tagged.found IS NOT NULL" if wanted.tag else "true",
    )
    parameters: dict[str, Any] = {
        "flow": flow_id,
        "limit": limit,
        "begin": wanted.begin,
        "end": wanted.end,
        "at": position and position.created_at,
        "id": position and position.id,
        "statuses": None if wanted.statuses is None else array_of(wanted.statuses),
        "text": wanted.tag,
        "tag_type": tag_type,
        "tag": tag,
    }
    return [(Execution(*row), may_match) for *row, may_match in fetched(sql, parameters)]


def _judged(candidates: list[Candidate], wanted: RunFilter) -> Iterator[tuple[Execution, Run | None, int]]:
    """Count the tasks of those that may be wanted, some at a time, and see which state that gives."""
    counts = task_counts({execution.version for execution, may_match in candidates if may_match})
    rest = iter(candidates)
    while part := list(_countable(rest, counts)):
        runs = {run.execution.id: run for run in runs_of([execution for execution, may_match in part if may_match])}
        for execution, may_match in part:
            run = runs[execution.id] if may_match else None
            is_wanted = run is not None and (not wanted.states or run.meaning.state in wanted.states)
            yield execution, run if is_wanted else None, run.task_count if run else 0


def _countable(candidates: Iterator[Candidate], counts: dict[tuple[UUID, int], int]) -> Iterator[Candidate]:
    """Yield the next candidates, until what is counted for them is enough for one statement."""
    tasks = 0
    for execution, may_match in islice(candidates, _RUNS_COUNTED):
        tasks += counts[execution.version] if may_match else 0
        yield execution, may_match
        if tasks >= _TASKS_COUNTED:
            return
