"""Celery tasks of the worker role."""

import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from executions.history import add_partitions, drop_partitions
from executions.removal import remove_deleted
from flowplatform.audit.authors import Author
from flowplatform.monthly import TableBusyError

logger = logging.getLogger(__name__)


# Rows that fit no month are moved in one statement, however many they are.
@shared_task(name="executions.keep_history", soft_time_limit=1_800, time_limit=1_900)
def keep_history() -> None:
    """Make partitions of the status history ahead of time; drop those older than `HISTORY_RETENTION_DAYS`, if set."""
    try:
        for name in add_partitions():
            logger.info("made the partition %s", name)
        if settings.HISTORY_RETENTION_DAYS:
            limit = timezone.now() - timedelta(days=settings.HISTORY_RETENTION_DAYS)
            for partition in drop_partitions(limit, author=Author("task:executions.keep_history")):
                logger.info("dropped the partition %s with about %d rows", partition.name, partition.rows)
    except TableBusyError:
        logger.warning("the status history was in use all the time, the next hour tries again")


@shared_task(name="executions.remove_deleted")
def remove_deleted_executions() -> None:
    """Remove executions that were deleted more than `DELETED_EXECUTION_RETENTION_DAYS` ago, if set."""
    if settings.DELETED_EXECUTION_RETENTION_DAYS:
        limit = timezone.now() - timedelta(days=settings.DELETED_EXECUTION_RETENTION_DAYS)
        if removed := remove_deleted(before=limit):
            logger.info("removed %d deleted executions", removed)
