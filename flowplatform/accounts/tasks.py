"""Celery task of the worker role."""

from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from flowplatform.accounts.services import prune_tokens
from flowplatform.accounts.sessions import SessionStore


@shared_task(name="accounts.prune")
def prune() -> None:
    """Remove sessions that expired, and tokens that ended more than `TOKEN_RETENTION_DAYS` ago, if set."""
    SessionStore.clear_expired()
    if settings.TOKEN_RETENTION_DAYS:
        prune_tokens(before=timezone.now() - timedelta(days=settings.TOKEN_RETENTION_DAYS))
