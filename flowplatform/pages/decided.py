"""Who decided what, and when: the trail of the tags of type `review`, newest first.

A tag is added once and perhaps removed once, so a row of the trail is up to two entries. A verdict that takes the place
of another one, or answers a `requires_review`, is one entry that says so. Entries come from two indexes after a
position, so a page costs the same however deep it is; with a filter a bounded number of them is looked at.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection

from flowplatform.accounts.actors import Actor
from flowplatform.cursors import decode_cursor, encode_cursor
from flowplatform.encoding import array_of

PAGE_SIZE = 50
LOOKED_AT = 2_000  # entries, for one page
VERDICTS = ("approved", "rejected", "reviewed")
KINDS = (*VERDICTS, "asked", "removed", "other")

_PLACE = "decisions"
_FIRST_ID, _LAST_ID = UUID(int=0), UUID(int=2**128 - 1)
_END = datetime.fromisoformat("9999-01-01T00:00:00+00:00")

# What was removed in the moment in which another tag was put on the task is told by the entry of that one. `LIMIT 1`
# keeps the planner from reading whole tables first.
_ENTRIES = """
    WITH entry AS MATERIALIZED (
        SELECT entry.* FROM unnest(%(organizations)s::uuid[]) AS organization (id) CROSS JOIN LATERAL (
            (SELECT id, created_at AS at, created_by AS who, false AS is_removal, flow_execution_id, task_name
             FROM tags_tasktag
             WHERE organization_id = organization.id AND tag_type = 'review' AND (created_at, id) < (%(at)s, %(added)s)
             ORDER BY created_at DESC, id DESC LIMIT %(limit)s)
            UNION ALL
            (SELECT id, updated_at, modified_by, true, flow_execution_id, task_name
             FROM tags_tasktag
             WHERE organization_id = organization.id AND tag_type = 'review' AND status = 'deleted'
               AND (updated_at, id) < (%(at)s, %(removed)s)
             ORDER BY updated_at DESC, id DESC LIMIT %(limit)s)
        ) AS entry
        ORDER BY at DESC, is_removal, id DESC LIMIT %(limit)s
    )
    SELECT entry.id, entry.at, entry.who, entry.is_removal, tag.flow_execution_id, tag.task_name, tag.tag,
           tag.tag_metadata, tag.status = 'deleted', tag.updated_at, tag.modified_by, execution.flow_id,
           execution.run_number, execution.organization_id,
           CASE WHEN NOT entry.is_removal THEN ARRAY(
               SELECT gone.tag FROM tags_tasktag AS gone
               WHERE gone.flow_execution_id = tag.flow_execution_id AND gone.task_name = tag.task_name
                 AND gone.status = 'deleted' AND gone.updated_at = entry.at AND gone.created_at < entry.at
               ORDER BY gone.created_at, gone.id
           ) END,
           execution.status = 'deleted' OR told.elsewhere IS NOT NULL
    FROM entry
    CROSS JOIN LATERAL (SELECT * FROM tags_tasktag WHERE id = entry.id LIMIT 1) AS tag
    CROSS JOIN LATERAL (
        SELECT flow_id, run_number, organization_id, status FROM executions_flowexecution
        WHERE id = entry.flow_execution_id LIMIT 1
    ) AS execution
    LEFT JOIN LATERAL (
        SELECT true AS elsewhere FROM tags_tasktag
        WHERE entry.is_removal AND flow_execution_id = tag.flow_execution_id AND task_name = tag.task_name
          AND tag_type = 'review' AND created_at = entry.at
        LIMIT 1
    ) AS told ON true
    ORDER BY entry.at DESC, entry.is_removal, entry.id DESC
"""


class Position(NamedTuple):
    """A place after an entry."""

    at: datetime
    is_removal: bool
    id: UUID

    @property
    def cursor(self) -> str:
        """Write it for an address."""
        return encode_cursor(_PLACE, [self.at.isoformat(), self.is_removal, str(self.id)])


_NEWEST = Position(_END, False, _FIRST_ID)


def position_of(cursor: str) -> Position:
    """Read a position from an address; raise 400 if it is none of this list."""
    at, is_removal, tag_id = decode_cursor(_PLACE, cursor)
    return Position(datetime.fromisoformat(at), is_removal, UUID(tag_id))


@dataclass(frozen=True)
class DecisionFilter:
    """Which entries are wanted: of a person or service, as people write the name, and of what kind."""

    by: str = ""
    kind: str = ""

    def wants(self, decision: "Decision") -> bool:
        """Say whether an entry is wanted."""
        by = self.by in ("", decision.who, decision.who.partition(":")[2])
        return by and self.kind in ("", decision.kind)

    @property
    def is_empty(self) -> bool:
        """Whether it lets everything pass."""
        return not (self.by or self.kind)


@dataclass(frozen=True, slots=True)
class Decision:
    """An entry: a tag that somebody put on a task, or took away from it."""

    id: UUID
    at: datetime
    who: str
    is_removal: bool
    flow_execution_id: UUID
    task_name: str
    tag: str
    metadata: Any
    is_gone: bool
    gone_at: datetime
    gone_by: str
    flow_id: UUID
    run_number: int
    organization_id: UUID
    instead_of: list[str] | None
    is_hidden: bool  # its execution is deleted, or another entry tells it

    @property
    def position(self) -> Position:
        """The place after it."""
        return Position(self.at, self.is_removal, self.id)

    @property
    def kind(self) -> str:
        """What a filter calls it."""
        if self.is_removal:
            return "removed"
        return self.tag if self.tag in VERDICTS else "asked" if self.tag == "requires_review" else "other"


@dataclass(frozen=True)
class DecisionPage:
    """Decisions, newest first; `older` goes on. `is_cut` if more may match among entries not looked at yet."""

    decisions: list[Decision]
    older: Position | None
    is_cut: bool = False


def decision_page(actor: Actor, wanted: DecisionFilter, position: Position | None) -> DecisionPage:
    """Return the decisions after a position; one query."""
    limit = 3 * PAGE_SIZE if wanted.is_empty else LOOKED_AT  # some are hidden
    entries, reached = _entries(actor, position or _NEWEST, limit)
    found: list[Decision] = []
    for decision in entries:
        if not decision.is_hidden and wanted.wants(decision):
            if len(found) == PAGE_SIZE:
                return DecisionPage(found, found[-1].position)
            found.append(decision)
    is_cut = reached and (not wanted.is_empty or not found)
    return DecisionPage(found, entries[-1].position if reached else None, is_cut)


def _entries(actor: Actor, after: Position, limit: int) -> tuple[list[Decision], bool]:
    """Return entries after a position, and whether there may be more."""
    parameters: dict[str, Any] = {
        "organizations": array_of(map(str, actor.organization_ids or ())),
        "at": after.at,
        "added": _FIRST_ID if after.is_removal else after.id if after is not _NEWEST else _LAST_ID,
        "removed": after.id if after.is_removal else _LAST_ID,
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_ENTRIES, parameters)
        entries = [Decision(*row) for row in cursor.fetchall()]
    return entries, len(entries) == limit
