"""`publish`: the one door into the event log, inside the transaction of the change that it tells of."""

from collections.abc import Sequence
from uuid import UUID

from django.db import connection, transaction
from django.db.transaction import TransactionManagementError

from flowplatform.encoding import encode
from notifications.notifier import notifier

_OPEN_STREAM = """
    INSERT INTO notifications_stream (flow_id, organization_id, epoch)
    VALUES (%(flow)s, %(organization)s, gen_random_uuid())
    ON CONFLICT (flow_id) DO NOTHING
"""

# One text for all events: psycopg escapes an array of JSON texts character by character.
_INSERT = """
    INSERT INTO notifications_event (organization_id, flow_id, flow_execution_id, type, data, created_at)
    SELECT %(organization)s::uuid, %(flow)s::uuid, (event->>1)::uuid, event->>0, event->2, clock_timestamp()
    FROM jsonb_array_elements(%(events)s::jsonb) WITH ORDINALITY AS item (event, place)
    ORDER BY place
"""


def publish(*, organization_id: UUID, flow_id: UUID, events: Sequence[tuple[str, UUID | None, object]] = ()) -> None:
    """Write events `(type, flow execution id, data)` of a flow in the caller's transaction; deliver them after commit.

    Call it after the row locks of the change are held: the ids then follow the order of the changes (pitfall 26).
    Without events it opens the stream of a new flow, so that a socket can wait for the first one.
    Raises `TransactionManagementError` outside a transaction: an event of a change that is undone must not exist.
    """
    if not connection.in_atomic_block:
        raise TransactionManagementError("publish() belongs into the transaction of the change it tells of.")
    with connection.cursor() as cursor:
        if not events:
            cursor.execute(_OPEN_STREAM, {"flow": flow_id, "organization": organization_id})
            return
        events_json = encode(events).decode()
        cursor.execute(_INSERT, {"organization": organization_id, "flow": flow_id, "events": events_json})
    # A plain nested function: `robust=True` fails on partials, and an exception here would turn a commit into a 500.
    transaction.on_commit(lambda: notifier.hint(flow_id))
