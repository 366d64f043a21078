"""The end of deleted executions: after a time the rows go as well, of an execution all of them or none."""

import logging
from datetime import datetime
from uuid import UUID

from django.db import DatabaseError, connection, transaction

from executions.models import ExecutionStatus, FlowExecution, FlowExecutionQuerySet
from flowplatform.audit.authors import Author
from flowplatform.audit.vocabulary import Action
from flowplatform.audit.writing import Entry, Subject, record

logger = logging.getLogger(__name__)

AUTHOR = Author("task:executions.remove_deleted")
LIMIT = 200  # in one go: a worker's thread has other things to do


def remove_deleted(*, before: datetime, limit: int = LIMIT) -> int:
    """Remove executions that were deleted before a moment, those that wait longest first; return how many."""
    waiting = _deleted(before).order_by("updated_at").values_list("pk", flat=True)[:limit]
    return sum(_removed(execution_id, before) for execution_id in list(waiting))


def _deleted(before: datetime) -> FlowExecutionQuerySet:
    # Nothing but its deletion has touched a deleted execution, so that is when it was updated.
    return FlowExecution.objects.filter(status=ExecutionStatus.DELETED, updated_at__lt=before)


def _removed(execution_id: UUID, before: datetime) -> bool:
    """Remove one execution; one that the database does not let go must not keep the others."""
    try:
        return _remove(execution_id, before)
    except DatabaseError:
        logger.exception("the deleted execution %s could not be removed", execution_id)
        return False


@transaction.atomic
def _remove(execution_id: UUID, before: datetime) -> bool:
    """Remove one execution with all that belongs to it; `False` if somebody else does."""
    # Locked before its tasks, as everywhere.
    execution = _deleted(before).select_for_update(skip_locked=True).filter(pk=execution_id).first()
    if execution is None:
        return False
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")  # a large one takes longer than requests may
        cursor.execute("SELECT executions_forget_history(%s)", [execution_id])  # for us it is append-only
    execution.delete()
    subject = Subject("flow_execution", str(execution_id))
    record(Entry(Action.DATA_REMOVED, AUTHOR, organization_id=execution.organization_id, subject=subject))
    return True
