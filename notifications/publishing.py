"""`publish`: the one door into the event log, inside the transaction of the change that it tells of."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.transaction import TransactionManagementError

from flowplatform.encoding import encode
from notifications.notifier import notifier

# Organization, flow, type, flow execution, and the data of the event.
NewEvent = tuple[UUID, UUID, str, UUID | None, object]

_OPEN_STREAM = """
    INSERT INTO notifications_stream (flow_id, organization_id, epoch)
    VALUES (%(flow)s, %(organization)s, gen_random_uuid())
    ON CONFLICT (flow_id) DO NOTHING
"""

# One text for all events: psycopg escapes an array of JSON texts character by character.
_INSERT = """
    INSERT INTO notifications_event (organization_id, flow_id, type, flow_execution_id, data, created_at)
    SELECT (event->>0)::uuid, (event->>1)::uuid, event->>2, (event->>3)::uuid, event->4, clock_timestamp()
    FROM json_array_elements(%(events)s::json) WITH ORDINALITY AS item (event, place)
    ORDER BY place
"""

# Organization, flow and flow execution of events that a query selects, the query and its parameters.
SelectedEvents = tuple[UUID, UUID, UUID, str, Mapping[str, Any]]

_INSERT_SELECTED = """
    INSERT INTO notifications_event (organization_id, flow_id, type, flow_execution_id, data, created_at)
    SELECT %(organization)s::uuid, %(flow)s::uuid, type, %(flow_execution)s::uuid, data, clock_timestamp()
    FROM ({query}) AS selected
"""


def publish(
    *events: NewEvent, opening: tuple[UUID, UUID] | None = None, selected: SelectedEvents | None = None
) -> None:
    """Write events in the caller's transaction, one statement for all; deliver them after commit.

    Call it after the row locks of the change are held: the ids then follow the order of the changes.
    `opening` (organization, flow) opens the stream of a new flow, so that a socket can wait for the first event.
    `selected` has a query of `type` and `data`, a row per event, for changes of too many rows to fetch them first.
    Raises `TransactionManagementError` outside a transaction: an event of a change that is undone must not exist.
    """
    if not connection.in_atomic_block:
        raise TransactionManagementError("publish() belongs into the transaction of the change it tells of.")
    with connection.cursor() as cursor:
        if opening:
            cursor.execute(_OPEN_STREAM, {"organization": opening[0], "flow": opening[1]})
        if events:
            cursor.execute(_INSERT, {"events": encode(events).decode()})
        if selected:
            _insert_selected(cursor, *selected)
    for flow_id in {event[1] for event in (*events, *([selected] if selected else []))}:
        # A plain lambda: `robust=True` fails on partials, and an exception here would turn a commit into a 500.
        transaction.on_commit(lambda flow_id=flow_id: notifier.hint(flow_id))  # type: ignore[misc]


def _insert_selected(
    cursor: CursorWrapper,
    organization: UUID,
    flow: UUID,
    flow_execution: UUID,
    query: str,
    parameters: Mapping[str, Any],
) -> None:
    about = {"organization": organization, "flow": flow, "flow_execution": flow_execution}
    cursor.execute(_INSERT_SELECTED.format(query=query), {**parameters, **about})
