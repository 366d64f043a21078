"""Celery task of the worker role."""

import logging
from datetime import timedelta

from celery import shared_task
from django.conf import settings
from django.utils import timezone

from flowplatform.audit.authors import Author
from flowplatform.audit.retention import RECORD, drop_old_records
from flowplatform.monthly import TableBusyError

logger = logging.getLogger(__name__)


@shared_task(name="audit.keep")
def keep_record() -> None:
    """Make partitions of the audit record ahead of time; drop those older than `AUDIT_RETENTION_DAYS`, if set."""
    try:
        for name in RECORD.add():
            logger.info("made the partition %s", name)
        if settings.AUDIT_RETENTION_DAYS:
            limit = timezone.now() - timedelta(days=settings.AUDIT_RETENTION_DAYS)
            for partition in drop_old_records(limit, author=Author("task:audit.keep")):
                logger.info("dropped the partition %s with about %d rows", partition.name, partition.rows)
    except TableBusyError:
        logger.warning("the audit record was in use all the time, the next hour tries again")
