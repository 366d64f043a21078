"""Staff's view of flows, executions and tasks."""

from typing import Any

from django.contrib import admin
from django.urls import reverse
from unfold.contrib.filters.admin import BooleanRadioFilter, ChoicesDropdownFilter

from executions.models import (
    ExecutionStatus,
    Flow,
    FlowExecution,
    FlowVersion,
    TaskExecution,
    TaskOutput,
    TaskStatus,
    WaitingTask,
)
from flowplatform.accounts.organization_filter import OrganizationFilter
from flowplatform.admin_lists import links, list_address, status_badge
from flowplatform.readonly_admin import ReadOnlyAdmin

# What belongs to an execution has an index by execution and none by organization: the filter goes the indexed way.
OfExecution = OrganizationFilter.through("flow_execution")


def page_of(execution: FlowExecution) -> str:
    """Return where people look at an execution; "" where nobody does any more."""
    is_deleted = execution.status == ExecutionStatus.DELETED
    return "" if is_deleted else reverse("execution-page", args=[execution.pk])


@admin.register(Flow)
class FlowAdmin(ReadOnlyAdmin):
    """Flows."""

    list_display = ("display_name", "organization", "version", "runs", "created_at", "modified_by", "elsewhere")
    list_filter = (OrganizationFilter,)
    list_select_related = ("organization",)
    search_fields = ("display_name", "id")
    readonly_fields = ("elsewhere",)

    @admin.display(description="see")
    def elsewhere(self, flow: Flow) -> str:
        """Where people look at the flow, and its executions here."""
        return links(
            (list_address("executions_flowexecution", q=flow.pk), "Executions"),
            (list_address("notifications_event", q=flow.pk), "Events"),
            page=reverse("flow-page", args=[flow.pk]),
        )


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

    list_display = ("run", "state", "organization", "created_at", "updated_at", "modified_by", "elsewhere")
    list_filter = (("status", ChoicesDropdownFilter), OrganizationFilter)
    list_select_related = ("flow", "organization")
    search_fields = ("id", "flow__id", "flow__display_name")
    readonly_fields = ("elsewhere",)

    @admin.display(ordering="run_number")
    def run(self, execution: FlowExecution) -> str:
        """Which run of which flow."""
        return f"{execution.flow} #{execution.run_number}"

    @admin.display(description="status", ordering="status")
    def state(self, execution: FlowExecution) -> str | None:
        """Its own status."""
        return status_badge(execution.status)

    @admin.display(description="see")
    def elsewhere(self, execution: FlowExecution) -> str:
        """Where people look at the execution, and what the admin knows of it."""
        return links(
            (list_address("executions_taskstatus", q=execution.pk), "History"),
            (list_address("executions_taskexecution", q=execution.pk), "Attempts"),
            (list_address("executions_taskoutput", q=execution.pk), "States"),
            (list_address("tags_tasktag", q=execution.pk), "Tags"),
            page=page_of(execution),
        )


class OfTaskAdmin(ReadOnlyAdmin):
    """What says a status of a task, and leads to the page of its execution."""

    @admin.display(description="status")
    def state(self, row: Any) -> str | None:
        """What the task was said to do."""
        return status_badge(row.processing_status)

    @admin.display(description="see")
    def elsewhere(self, row: Any) -> str:
        """Where people look at the execution."""
        return links(page=page_of(row.flow_execution))


@admin.register(TaskStatus)
class TaskStatusAdmin(OfTaskAdmin):
    """The status history, newest first; no other order has an index."""

    list_display = ("task_name", "state", "flow_execution", "flow_execution__organization", "created_at", "elsewhere")
    list_filter = (OfExecution,)
    list_select_related = ("flow_execution__organization",)
    sortable_by = ()
    search_fields = ("flow_execution__id",)
    search_help_text = "The whole id of an execution"

    @admin.display(description="status")
    def state(self, row: TaskStatus) -> str | None:
        """What was reported."""
        return status_badge(row.status)


@admin.register(TaskExecution)
class TaskExecutionAdmin(OfTaskAdmin):
    """Attempts of tasks."""

    list_display = (
        "task_name",
        "task_execution_idx",
        "state",
        "edited_status",
        "stale_status",
        "flow_execution",
        "updated_at",
        "modified_by",
        "elsewhere",
    )
    list_filter = (("edited_status", ChoicesDropdownFilter), ("stale_status", ChoicesDropdownFilter), OfExecution)
    list_select_related = ("flow_execution",)
    search_fields = ("flow_execution__id",)
    search_help_text = "The whole id of an execution"


@admin.register(TaskOutput)
class TaskOutputAdmin(OfTaskAdmin):
    """The derived state."""

    list_display = (
        "task_name",
        "state",
        "edited_status",
        "stale_status",
        "flow_execution",
        "updated_at",
        "elsewhere",
    )
    list_filter = (("edited_status", ChoicesDropdownFilter), ("stale_status", ChoicesDropdownFilter), OfExecution)
    list_select_related = ("flow_execution",)
    search_fields = ("id", "flow_execution__id")


@admin.register(WaitingTask)
class WaitingTaskAdmin(OfTaskAdmin):
    """What says that it waits for a person, and whether a verdict or the end of its run settled that."""

    list_display = (
        "task_name",
        "state",
        "since",
        "is_decided",
        "is_over",
        "organization",
        "flow_execution",
        "elsewhere",
    )
    list_filter = (("is_decided", BooleanRadioFilter), ("is_over", BooleanRadioFilter), OrganizationFilter)
    list_select_related = ("organization", "flow_execution")
    ordering = ("since", "task_output")
    search_fields = ("task_output__id", "flow_execution__id")
    search_help_text = "The whole id of an execution"

    @admin.display(description="status")
    def state(self, row: WaitingTask) -> str | None:
        """How it waits."""
        return status_badge(row.status)
