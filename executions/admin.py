"""Staff's view of flows, executions and tasks."""

from django.contrib import admin

from executions.models import Flow, FlowExecution, FlowVersion, TaskExecution, TaskOutput, TaskStatus
from flowplatform.accounts.organization_filter import OrganizationFilter
from flowplatform.readonly_admin import ReadOnlyAdmin

# What belongs to an execution has an index by execution and none by organization: the filter goes the indexed way.
OfExecution = OrganizationFilter.through("flow_execution")


@admin.register(Flow)
class FlowAdmin(ReadOnlyAdmin):
    """Flows."""

    list_display = ("display_name", "organization", "version", "runs", "created_at", "modified_by")
    list_filter = (OrganizationFilter,)
    list_select_related = ("organization",)
    search_fields = ("display_name", "id")


@admin.register(FlowVersion)
class FlowVersionAdmin(ReadOnlyAdmin):
    """Definitions."""

    list_display = ("flow", "number", "flow__organization", "created_at", "created_by")
    list_filter = (OrganizationFilter.through("flow"),)
    list_select_related = ("flow__organization",)
    search_fields = ("flow__display_name", "flow__id")


@admin.register(FlowExecution)
class FlowExecutionAdmin(ReadOnlyAdmin):
    """Executions, deleted ones included."""

    list_display = ("flow", "run_number", "status", "organization", "created_at", "updated_at", "modified_by")
    list_filter = ("status", OrganizationFilter)
    list_select_related = ("flow", "organization")
    search_fields = ("id", "flow__id", "flow__display_name")


@admin.register(TaskStatus)
class TaskStatusAdmin(ReadOnlyAdmin):
    """The status history, newest first; no other order has an index."""

    list_display = ("task_name", "status", "flow_execution", "flow_execution__organization", "created_at")
    list_filter = (OfExecution,)
    list_select_related = ("flow_execution__organization",)
    sortable_by = ()
    search_fields = ("flow_execution__id",)
    search_help_text = "The whole id of an execution."


@admin.register(TaskExecution)
class TaskExecutionAdmin(ReadOnlyAdmin):
    """Attempts of tasks."""

    list_display = (
        "task_name",
        "task_execution_idx",
        "processing_status",
        "edited_status",
        "stale_status",
        "flow_execution",
        "updated_at",
        "modified_by",
    )
    list_filter = ("edited_status", "stale_status", OfExecution)
    list_select_related = ("flow_execution",)
    search_fields = ("flow_execution__id",)


@admin.register(TaskOutput)
class TaskOutputAdmin(ReadOnlyAdmin):
    """The derived state."""

    list_display = ("task_name", "processing_status", "edited_status", "stale_status", "flow_execution", "updated_at")
    list_filter = ("edited_status", "stale_status", OfExecution)
    list_select_related = ("flow_execution",)
    search_fields = ("id", "flow_execution__id")
