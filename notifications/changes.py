"""Which flows of an organization changed since the last look at the database: what its watchers are told.

A look goes by transactions, not by times. It remembers the oldest transaction that was still running; whatever is older
had ended by then and was seen, and everything else is looked at the next time. So a transaction that commits late is
missed by no clock, and a look reads only what changed lately, by an index.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from uuid import UUID

from django.db import connection

THIS_TRANSACTION = "pg_current_xact_id()::text::bigint"

_HORIZON = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"

# One statement, so that the horizon is that of the rows. Without any there is still a row with the horizon.
_LOOK = f"""
    SELECT now.horizon, stream.organization_id, stream.flow_id, stream."offset"
    FROM (SELECT {_HORIZON} AS horizon) AS now LEFT JOIN notifications_stream AS stream
    ON stream.organization_id = ANY(%s) AND stream.changed_in >= %s
"""  # noqa: S608  (all parts are written in the code)


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen: the offsets of the flows that changed, by organization, and where the next look begins."""

    changed: Mapping[UUID, Mapping[UUID, int]]
    horizon: int


def horizon() -> int:
    """Return where a look begins that is to see all that is not to be seen yet."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_HORIZON}")
        found: int = cursor.fetchone()[0]
        return found


def look(organization_ids: Collection[UUID], *, since: int) -> Look:
    """Return the flows of the organizations that changed since the horizon `since`; a few may be older than that.

    A horizon that lies behind `since` is that of another database, which counts its transactions by itself: then the
    next look sees everything.
    """
    with connection.cursor() as cursor:
        cursor.execute(_LOOK, [list(organization_ids), since])
        rows = cursor.fetchall()
    changed: dict[UUID, dict[UUID, int]] = {}
    for _, organization_id, flow_id, offset in rows:
        if flow_id is not None:
            changed.setdefault(organization_id, {})[flow_id] = offset
    now = rows[0][0]
    return Look(changed, now if now >= since else 0)
