"""What waits for somebody's decision: the worklist of `/review/`.

A task waits
- while a tag `requires_review`, of any type, stands on it, whenever that was put there; and
- while its state is `awaiting_input` or `requires_review` and nobody has decided since: a tag of type `review` that
  says approved, rejected or reviewed, stands, and was put there after the task began to wait, settles it. Saying the
  same status again begins nothing new; another status between two of them does, and the task is back.

Tasks of deleted and of cancelled executions do not wait.

Where it looks. The states that wait are in a table of their own (`executions.models.WaitingTask`), which the database
keeps, and tags have a partial index. Of either, the oldest `LOOKED_AT` of an organization are looked at, those of dead
executions left out before. What that table says is settled is a hint to leave it out; what it does not say is looked
up: a verdict and a status at the same moment do not wait for each other.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection

from executions.models import WAITING
from flowplatform.accounts.actors import Actor
from flowplatform.encoding import array_of

LOOKED_AT = 10_000
MANY = 100  # nobody counts further beside a link

TAGGED = "tagged"
REASONS = (*WAITING, TAGGED)

# `OFFSET 0` keeps the planner from reading all executions of everybody first.
_LIVES = """EXISTS (
                SELECT FROM executions_flowexecution AS execution
                WHERE execution.id = flow_execution_id AND execution.status NOT IN ('deleted', 'cancelled') OFFSET 0
              )"""

# `LIMIT 1` keeps it from reading all tags, or again all executions.
_WAITING = f"""
    WITH by_state AS (
        SELECT state.* FROM unnest(%(organizations)s::uuid[]) AS organization (id) CROSS JOIN LATERAL (
            SELECT flow_execution_id, task_name, status, since FROM executions_waitingtask
            WHERE organization_id = organization.id AND NOT is_decided AND NOT is_over AND {_LIVES}
            ORDER BY since LIMIT %(looked_at)s
        ) AS state
        LEFT JOIN LATERAL (
            SELECT true AS found FROM tags_tasktag
            WHERE organization_id = organization.id AND flow_execution_id = state.flow_execution_id
              AND task_name = state.task_name
              AND tag IN ('approved', 'rejected', 'reviewed') AND tag_type = 'review' AND status = 'active'
              AND created_at >= state.since
            LIMIT 1
        ) AS verdict ON true
        WHERE verdict.found IS NULL
    ), by_tag AS (
        SELECT asking.* FROM unnest(%(organizations)s::uuid[]) AS organization (id) CROSS JOIN LATERAL (
            SELECT flow_execution_id, task_name, created_at AS since FROM tags_tasktag
            WHERE organization_id = organization.id AND tag = 'requires_review' AND status = 'active' AND {_LIVES}
            ORDER BY created_at, id LIMIT %(looked_at)s
        ) AS asking
    ), waiting AS (
        SELECT flow_execution_id, task_name, min(since) AS since, max(status) AS status, bool_or(is_tag) AS is_tagged
        FROM (
            SELECT flow_execution_id, task_name, since, status, false AS is_tag FROM by_state
            UNION ALL
            SELECT flow_execution_id, task_name, since, NULL, true FROM by_tag
        ) AS reason
        GROUP BY flow_execution_id, task_name
    ), task AS MATERIALIZED (
        SELECT waiting.*, execution.flow_id, execution.run_number, execution.organization_id
        FROM waiting CROSS JOIN LATERAL (
            SELECT flow_id, run_number, organization_id FROM executions_flowexecution
            WHERE id = waiting.flow_execution_id LIMIT 1
        ) AS execution
    )
"""  # noqa: S608  (made of our own text only)

_PAGE = f"""
    {_WAITING}, wanted AS (
        SELECT * FROM task
        WHERE (%(flow)s::uuid IS NULL OR flow_id = %(flow)s)
          AND (%(name)s = '' OR strpos(lower(task_name), %(name)s) > 0)
          AND CASE %(reason)s WHEN '' THEN true WHEN 'tagged' THEN is_tagged ELSE status = %(reason)s END
    ), page AS (
        SELECT * FROM wanted ORDER BY since, flow_execution_id, task_name LIMIT %(limit)s
    )
    SELECT (SELECT json_agg(json_build_array(
                flow_execution_id, task_name, since, status, is_tagged, flow_id, run_number, organization_id
            ) ORDER BY since, flow_execution_id, task_name) FROM page),
           (SELECT count(*) FROM wanted),
           (SELECT json_object_agg(flow_id, tasks)
            FROM (SELECT flow_id, count(*) AS tasks FROM task GROUP BY flow_id) AS flow)
"""  # noqa: S608  (made of our own text only)

_COUNT = f"{_WAITING} SELECT count(*) FROM task"  # noqa: S608  (made of our own text only)


@dataclass(frozen=True)
class WaitingFilter:
    """Which of the waiting tasks are wanted: of a flow, for a reason, by a part of the name."""

    flow_id: UUID | None = None
    reason: str = ""
    name: str = ""
    problems: tuple[str, ...] = ()  # what could not be understood, and is left out

    @property
    def is_empty(self) -> bool:
        """Whether it lets everything pass."""
        return not (self.flow_id or self.reason or self.name)


@dataclass(frozen=True, slots=True)
class WaitingTask:
    """A task that waits: since when, by which status (if that is why), and whether a tag asks for a verdict."""

    flow_execution_id: UUID
    task_name: str
    since: datetime
    status: str | None
    is_tagged: bool
    flow_id: UUID
    run_number: int
    organization_id: UUID

    @classmethod
    def read(cls, row: list[Any]) -> "WaitingTask":
        """Make one of a row as the statement returns it."""
        execution, name, since, status, is_tagged, flow, run_number, organization = row
        since = datetime.fromisoformat(since)
        return cls(UUID(execution), name, since, status, is_tagged, UUID(flow), run_number, UUID(organization))


@dataclass(frozen=True)
class Worklist:
    """The tasks that wait the longest, how many are `wanted` in all, and how many wait in each flow whatever filter."""

    tasks: list[WaitingTask]
    wanted: int
    by_flow: dict[UUID, int]

    @property
    def waiting(self) -> int:
        """How many wait, whatever the filter."""
        return sum(self.by_flow.values())


def worklist(actor: Actor, wanted: WaitingFilter, limit: int) -> Worklist:
    """Return what waits in the organizations of somebody, the longest first; one query."""
    parameters = {
        "organizations": _organizations(actor),
        "flow": wanted.flow_id,
        "reason": wanted.reason,
        "name": wanted.name.lower(),
        "limit": limit,
        "looked_at": LOOKED_AT,
    }
    with connection.cursor() as cursor:
        cursor.execute(_PAGE, parameters)
        rows, count, by_flow = cursor.fetchone()
    flows = {UUID(flow_id): tasks for flow_id, tasks in (by_flow or {}).items()}
    return Worklist([WaitingTask.read(row) for row in rows or ()], count, flows)


def count_waiting(actor: Actor) -> int:
    """Return how many tasks wait in the organizations of somebody; many more than `MANY` are not all counted."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, {"organizations": _organizations(actor), "looked_at": 2 * MANY})
        count: int = cursor.fetchone()[0]
    return count


def _organizations(actor: Actor) -> str:
    ids: Collection[UUID] = actor.organization_ids or ()
    return array_of(map(str, ids))
