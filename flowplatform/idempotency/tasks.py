"""Celery task of the worker role."""

from celery import shared_task

from flowplatform.idempotency.services import prune_keys


@shared_task(name="idempotency.prune")
def prune() -> int:
    """Remove expired keys."""
    return prune_keys()
