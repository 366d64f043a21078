"""Celery tasks of the worker role: relay what was hinted, sweep what was not, prune what is old."""

import logging
from collections.abc import Iterator, Sequence
from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.utils import timezone

from flowplatform import metrics
from flowplatform.errors import is_gone
from notifications.backlog import note_backlog
from notifications.lag import lag_meter, observe
from notifications.layer import Message, changes_message, frame_message, layer_sender
from notifications.relay import Numbered, flows_waiting, frames, number_pending, prune

logger = logging.getLogger(__name__)

SWEEP_AGE = timedelta(seconds=1)  # younger events are most likely in the hands of a relay


@shared_task(name="notifications.relay")
def relay(flow_ids: list[str]) -> None:
    """Number and send the events of the flows. Idempotent: a second run finds nothing to do."""
    relay_flows([UUID(flow_id) for flow_id in flow_ids])


@shared_task(name="notifications.sweep")
def sweep() -> None:
    """Relay the flows whose hint was lost: the broker was away, or the process died after its commit."""
    found = flows_waiting(older_than=SWEEP_AGE)
    metrics.swept_flows.inc(len(found))
    relay_flows(found, wait=False)
    lag_meter.flush()
    note_backlog()
    metrics.swept_at.set_to_current_time()


@shared_task(name="notifications.prune")
def prune_events() -> int:
    """Remove events older than `EVENT_RETENTION_HOURS`."""
    return prune(before=timezone.now() - timedelta(hours=settings.EVENT_RETENTION_HOURS))


def relay_flows(flow_ids: Sequence[UUID], *, wait: bool = True) -> None:
    """Number what is committed, then send it. A crash in between is healed by the sockets' own reading.

    A flow that cannot be relayed is logged and left to the next sweep: it must not hold up the others.
    """
    try:
        for numbered in number_pending(flow_ids, wait=wait):
            metrics.relayed_events.labels("task").inc(len(observe(numbered, "numbered")))
            layer_sender.send(list(news_of(numbered)))
            lag_meter.note(numbered)
    except (DatabaseError, InterfaceError) as error:
        if len(flow_ids) > 1 and not is_gone(error):  # one of them is to blame
            for flow_id in flow_ids:
                relay_flows([flow_id], wait=wait)
        else:
            metrics.relay_failures.inc()
            logger.exception("%d flows could not be relayed, the next sweep tries again", len(flow_ids))


def news_of(numbered: Numbered) -> Iterator[Message]:
    """Yield the events of each flow, and which flows changed for each organization: one small message."""
    for flow_id, rows in numbered.items():
        for frame in frames(rows):
            yield frame_message(flow_id, frame)
    for organization_id, offsets in numbered.highest().items():
        yield changes_message(organization_id, offsets)
