"""What a client may still replay: the answer of `GET /api/flows/{id}/events` and the start of every socket."""

import logging
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from math import ceil
from uuid import UUID

from django.db import DatabaseError, connection

from flowplatform import metrics
from notifications.relay import FLOWS, EventRow, flows_waiting_in, flows_waiting_of, number_pending, read_events

logger = logging.getLogger(__name__)

STUCK = timedelta(seconds=2)  # an event that waits longer has no worker to number it
STUCK_BATCHES = 4  # or as many as it takes for every flow to have its turn

# One text for any number of flows: as an IN of the ORM it would be another statement, parsed anew, for every number.
_POSITIONS = """
    SELECT flow_id, epoch, "offset", pruned_offset FROM notifications_stream WHERE flow_id = ANY(%s)
"""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stream stands: its epoch, its highest offset and the highest offset that was pruned."""

    epoch: str
    offset: int
    pruned: int

    def can_replay(self, since: int, epoch: str | None) -> bool:
        """Say whether everything after `since` is still there and `since` is of this epoch."""
        return epoch in (None, self.epoch) and self.pruned <= since <= self.offset


def positions(flow_ids: Collection[UUID]) -> dict[UUID, Position]:
    """Return where the streams stand, in one query; unknown flows are left out."""
    with connection.cursor() as cursor:
        cursor.execute(_POSITIONS, [list(flow_ids)])
        return {flow_id: Position(str(epoch), offset, pruned) for flow_id, epoch, offset, pruned in cursor.fetchall()}


def number_stuck(flow_ids: Collection[UUID]) -> None:
    """Number events of these flows that wait too long: readers do not depend on Celery being there.

    At most a few batches of each flow at a time: a reader must not work off a long backlog alone.
    """
    _number_some(flows_waiting_of(flow_ids, older_than=STUCK))


def number_stuck_in(organization_ids: Collection[UUID]) -> None:
    """Do the same for all flows of organizations, beginning with those that wait longest."""
    _number_some(flows_waiting_in(organization_ids, older_than=STUCK))


def _number_some(stuck: Collection[UUID]) -> None:
    batches = max(STUCK_BATCHES, ceil(len(stuck) / FLOWS))
    try:
        for numbered in islice(number_pending(stuck, wait=False), batches):
            metrics.relayed_events.labels("live").inc(sum(map(len, numbered.values())))
    except DatabaseError as error:
        logger.warning("%d flows could not be numbered: %s", len(stuck), error)


def replay(flow_id: UUID, *, since: int, epoch: str | None, limit: int) -> tuple[Position, list[EventRow] | None]:
    """Return the position and at most `limit` events after `since`; `None` instead of events asks for a reset.

    The events are read before the position: what is pruned in between shows in the position and makes a reset.
    """
    events = read_events(flow_id, since=since, limit=limit)
    position = positions([flow_id])[flow_id]
    return position, events if position.can_replay(since, epoch) else None
