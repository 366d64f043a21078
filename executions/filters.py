"""The filters of the execution list."""

from executions.models import FlowExecutionQuerySet
from executions.schemas import FlowExecutionsQuery


def filtered(executions: FlowExecutionQuerySet, query: FlowExecutionsQuery) -> FlowExecutionQuerySet:
    """Narrow and order executions as the query asks; "after" and "before" leave out the moment itself."""
    executions = executions.of_flow(query.flow_id).alive()
    if query.status:
        executions = executions.filter(status__in=query.status)
    if query.status_exclude:
        executions = executions.exclude(status__in=query.status_exclude)
    moments = {
        "created_at__gt": query.created_after,
        "created_at__lt": query.created_before,
        "updated_at__gt": query.updated_after,
        "updated_at__lt": query.updated_before,
    }
    executions = executions.filter(**{lookup: moment for lookup, moment in moments.items() if moment is not None})
    sign = "-" if query.sort_direction == "desc" else ""
    return executions.order_by(f"{sign}{query.sort_field}", f"{sign}id")
