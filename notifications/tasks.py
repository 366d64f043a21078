"""Celery tasks of the worker role: relay what was hinted, sweep what was not, prune what is old."""

from datetime import timedelta
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from notifications.layer import layer_sender
from notifications.relay import flows_waiting, frames, number_pending, prune

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
        relay_flow(flow_id)


@shared_task(name="notifications.prune")
def prune_events() -> int:
    """Remove events older than `EVENT_RETENTION_HOURS`."""
    return prune(before=timezone.now() - timedelta(hours=settings.EVENT_RETENTION_HOURS))


def relay_flow(flow_id: UUID) -> None:
    """Number what is committed, then send it. A crash in between is healed by the sockets' own reading."""
    layer_sender.send(flow_id, list(frames(number_pending(flow_id))))
