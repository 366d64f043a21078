"""`publish`: the one door into the event log, inside the transaction of the change that it tells of."""

from collections.abc import Mapping
from functools import cache
from typing import Any, NotRequired, TypedDict
from uuid import UUID

from django.db import connection, transaction
from django.db.transaction import TransactionManagementError

from flowplatform.encoding import encode
from notifications.changes import THIS_TRANSACTION
from notifications.notifier import notifier

# Organization, flow, type, flow execution, and the data of the event.
NewEvent = tuple[UUID, UUID, str, UUID | None, object]

_OPEN_STREAM = f"""
    INSERT INTO notifications_stream (flow_id, organization_id, epoch, changed_in)
    VALUES (%(flow)s, %(organization)s, gen_random_uuid(), {THIS_TRANSACTION})
    ON CONFLICT (flow_id) DO NOTHING
"""  # noqa: S608  (all parts are written in the code)

_INSERT = """
    INSERT INTO notifications_event (organization_id, flow_id, type, flow_execution_id, data, created_at)
    VALUES (%s, %s, %s, %s, %s::json, clock_timestamp())
"""


class SelectedEvents(TypedDict):
    """Events that a query selects, a row each, for what is better not fetched first.

    `query` selects `organization_id`, `flow_id`, `type`, `flow_execution_id` and `data`. `change`, if there is any,
    are the common table expressions of the change itself: then change and events are one statement, which needs no
    transaction around it. `returning` is what `publish` returns of each event, if anything.
    """

    query: str
    parameters: Mapping[str, Any]
    change: NotRequired[str]
    returning: NotRequired[str]


def publish(
    *events: NewEvent, opening: tuple[UUID, UUID] | None = None, selected: SelectedEvents | None = None
) -> list[tuple[Any, ...]]:
    """Write events in the caller's transaction, in one way to the database; deliver them after commit.

    Call it after the row locks of the change are held: the ids then follow the order of the changes.
    `opening` (organization, flow) opens the stream of a new flow, so that a socket can wait for the first event.
    Returns what the `selected` events were asked to return, a row each. Raises `TransactionManagementError` outside
    a transaction: an event of a change that is undone must not exist.
    """
    if not connection.in_atomic_block and not (selected and "change" in selected):
        raise TransactionManagementError("publish() belongs into the transaction of the change it tells of.")
    flow_ids = {event[1] for event in events}
    returned: list[tuple[Any, ...]] = []
    with connection.cursor() as cursor:
        if opening:
            cursor.execute(_OPEN_STREAM, {"organization": opening[0], "flow": opening[1]})
        if events:
            cursor.executemany(_INSERT, [(*event[:-1], encode(event[-1]).decode()) for event in events])
        if selected:
            statement = _insert_selected(selected.get("change"), selected["query"], selected.get("returning"))
            cursor.execute(statement, selected["parameters"])
            returned = cursor.fetchall()
            flow_ids |= {row[0] for row in returned}
    for flow_id in flow_ids:
        if connection.in_atomic_block:
            # A plain lambda: `robust=True` fails on partials, and an exception here would turn a commit into a 500.
            transaction.on_commit(lambda flow_id=flow_id: notifier.hint(flow_id))  # type: ignore[misc]
        else:  # the statement was its own transaction
            notifier.hint(flow_id)
    return [row[1:] for row in returned]


@cache
def _insert_selected(change: str | None, query: str, returning: str | None) -> str:
    """Return the statement, which is one of a few: the database plans each once per connection.

    Its rows begin with the flow. Where nothing else is asked for there is one row per flow, not one per event.
    """
    insert = f"""
        INSERT INTO notifications_event (organization_id, flow_id, type, flow_execution_id, data, created_at)
        SELECT organization_id, flow_id, type, flow_execution_id, data, clock_timestamp()
        FROM ({query}) AS selected
        RETURNING flow_id
    """  # noqa: S608  (all parts are written in the code)
    changes = f"{change}, " if change else ""
    if returning is None:
        return f"WITH {changes} event AS ({insert}) SELECT DISTINCT flow_id FROM event"  # noqa: S608
    return f"{f'WITH {change}' if change else ''} {insert}, {returning}"
