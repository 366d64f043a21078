"""Celery tasks of the worker role: relay what was hinted, sweep what was not, prune what is old."""

import logging
from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from notifications.layer import layer_sender
from notifications.relay import flows_waiting, frames, number_pending, prune

logger = logging.getLogger(__name__)

SWEEP_AGE = timedelta(seconds=1)  # younger events are most likely in the hands of a relay


@shared_task(name="notifications.relay")
def relay(flow_ids: list[str]) -> None:
    """Number and send the events of the flows. Idempotent: a second run finds nothing to do."""
    for flow_id in map(UUID, flow_ids):
        relay_flow(flow_id)


@shared_task(name="notifications.sweep")
def sweep() -> None:
    """Relay the flows whose hint was lost: the broker was away, or the process died after its commit."""
    for flow_id in flows_waiting(older_than=SWEEP_AGE):
        relay_flow(flow_id, wait=False)


@shared_task(name="notifications.prune")
def prune_events() -> int:
    """Remove events older than `EVENT_RETENTION_HOURS`."""
    return prune(before=timezone.now() - timedelta(hours=settings.EVENT_RETENTION_HOURS))


def relay_flow(flow_id: UUID, *, wait: bool = True) -> None:
    """Number what is committed, then send it. A crash in between is healed by the sockets' own reading.

    A flow that cannot be relayed is logged and left to the next sweep: it must not hold up the others.
    """
    try:
        for rows in number_pending(flow_id, wait=wait):
            layer_sender.send(flow_id, list(frames(rows)))
    except DatabaseError:
        logger.exception("flow %s could not be relayed, the next sweep tries again", flow_id)
