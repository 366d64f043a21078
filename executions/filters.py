"""The filters of the execution list."""

from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from executions.models import FlowExecution, FlowExecutionQuerySet
from executions.schemas import FlowExecutionsQuery


def filtered(executions: FlowExecutionQuerySet, query: FlowExecutionsQuery) -> FlowExecutionQuerySet:
    """Narrow and order executions as the query asks; "after" and "before" leave out the moment itself."""
    executions = executions.of_flow(query.flow_id).alive()
    if query.status:
        executions = executions.filter(status__in=query.status)
    if query.status_exclude:
        executions = executions.exclude(status__in=query.status_exclude)
    for text in query.tags:
        executions = executions.filter(pk__in=_tagged(query.flow_id, text))
    moments = {
        "created_at__gt": query.created_after,
        "created_at__lt": query.created_before,
        "updated_at__gt": query.updated_after,
        "updated_at__lt": query.updated_before,
    }
    executions = executions.filter(**{lookup: moment for lookup, moment in moments.items() if moment is not None})
    sign = "-" if query.sort_direction == "desc" else ""
    return executions.order_by(f"{sign}{query.sort_field}", f"{sign}id")


def _tagged(flow_id: UUID, text: str) -> QuerySet[Any, Any]:
    """Return the executions that have the live tag `text` on a task; "a:b" is the tag b of type a, or the tag "a:b"."""
    tag_type, _, tag = text.partition(":")
    wanted = Q(task_tags__tag=text) | Q(task_tags__tag_type=tag_type, task_tags__tag=tag)
    return FlowExecution.objects.of_flow(flow_id).filter(wanted, task_tags__status="active").values("pk")
