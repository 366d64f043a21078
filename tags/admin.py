"""Staff's view of tags and their trail: removed ones are shown, and can be restored as new rows."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.formats import localize
from django.utils.html import format_html
from rest_framework.exceptions import NotFound
from unfold.contrib.filters.admin import ChoicesDropdownFilter

from executions.admin import page_of
from executions.models import ExecutionStatus
from flowplatform.accounts.models import User
from flowplatform.accounts.organization_filter import OrganizationFilter
from flowplatform.accounts.services import actor_of_staff
from flowplatform.admin_lists import WithButton, links, list_address
from flowplatform.audit.authors import origin_of
from flowplatform.readonly_admin import ReadOnlyAdmin
from tags.models import TagStatus, TaskTag
from tags.services import restore_task_tags

TRAIL = 200  # rows of a task's trail that its page shows, the newest ones


@admin.register(TaskTag)
class TaskTagAdmin(WithButton, ReadOnlyAdmin):
    """Tags, removed ones included: those are struck through, with who removed them and when."""

    list_display = (
        "name",
        "state",
        "removed_by",
        "removed_at",
        "tag_type",
        "task_name",
        "created_by",
        "created_at",
        "flow_execution",
    )
    # By execution: that is what the rows have an index for.
    list_filter = (("status", ChoicesDropdownFilter), OrganizationFilter.through("flow_execution"))
    list_select_related = ("flow_execution",)
    search_fields = ("tag", "task_name", "flow_execution__id", "id")
    actions = ("restore",)
    button, button_label = "restore", "Restore"

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show the tag, then what happened to its task."""
        facts = ("name", "state", "tag_type", self._json["tag_metadata"], "task_name", "flow_execution", "elsewhere")
        times = ("created_by", "created_at", "removed_by", "removed_at")
        return [
            (None, {"fields": self._and_button(request, (*facts, *times))}),
            ("Trail of this task", {"fields": ("trail",)}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Show all of it, and let nobody edit any."""
        return [name for _, part in self.get_fieldsets(request, obj) for name in part["fields"]]

    @admin.display(description="tag", ordering="tag")
    def name(self, tag: TaskTag) -> str:
        """The tag, struck through when it is removed."""
        return format_html("<s>{}</s>" if _is_removed(tag) else "{}", tag.tag)

    @admin.display(ordering="status")
    def state(self, tag: TaskTag) -> str:
        """Whether it stands."""
        return "removed" if _is_removed(tag) else "stands"

    @admin.display
    def removed_by(self, tag: TaskTag) -> str | None:
        """Who removed it."""
        return tag.modified_by if _is_removed(tag) else None

    @admin.display
    def removed_at(self, tag: TaskTag) -> str | None:
        """When it was removed."""
        return localize(tag.updated_at) if _is_removed(tag) else None

    @admin.display(description="see")
    def elsewhere(self, tag: TaskTag) -> str:
        """Where people look at the execution, and its other tags."""
        return links(
            (list_address("tags_tasktag", q=tag.flow_execution_id), "All tags of the execution"),
            page=page_of(tag.flow_execution),
            page_title="Page of the execution",
        )

    @admin.display
    def trail(self, tag: TaskTag) -> str:
        """Every tag that the task ever had, newest first: who added it and when, who removed it and when."""
        of_task = TaskTag.objects.filter(flow_execution_id=tag.flow_execution_id, task_name=tag.task_name)
        rows = list(of_task.order_by("-created_at", "-id")[:TRAIL])
        return render_to_string("tags/trail.html", {"rows": rows, "shown": tag, "is_cut": len(rows) == TRAIL})

    def may_press(self, request: HttpRequest) -> bool:
        """Let those restore who may."""
        return self.has_restore_permission(request)

    def offers_button(self, row: TaskTag) -> bool:
        """Restore only what is removed, where there is still an execution."""
        return _is_removed(row) and row.flow_execution.status != ExecutionStatus.DELETED

    def pressed(self, request: HttpRequest, row: TaskTag) -> None:
        """Restore one tag."""
        self._restore(request, [row])

    @admin.action(description="Restore the selected tags (new rows; the trail stays)", permissions=["restore"])
    def restore(self, request: HttpRequest, queryset: QuerySet[TaskTag]) -> None:
        """Restore several tags."""
        self._restore(request, list(queryset.select_related("flow_execution")))

    def _restore(self, request: HttpRequest, selected: Sequence[TaskTag]) -> None:
        """Add removed tags again, in the name of the staff member, and say what became of every selected one."""
        assert isinstance(request.user, User)
        removed = [tag for tag in selected if _is_removed(tag)]
        of_deleted = [tag for tag in removed if tag.flow_execution.status == ExecutionStatus.DELETED]
        try:
            actor = actor_of_staff(request.user)
            restored = restore_task_tags(actor=actor, tags=removed, origin=origin_of(request))
        except NotFound:
            messages.error(request, "An execution was deleted at this moment. Look at the list again, and repeat.")
            return
        standing = len(selected) - len(of_deleted) - restored
        if restored:
            messages.success(request, f"Restored: {restored}.")
        if standing:
            messages.warning(request, f"Left alone, because the same tag stands: {standing}.")
        if of_deleted:
            messages.warning(request, f"Left alone, because the execution is deleted: {len(of_deleted)}.")

    def has_restore_permission(self, request: HttpRequest) -> bool:
        """Whoever may change tags may restore them; nobody edits a row."""
        return request.user.has_perm("tags.change_tasktag")


def _is_removed(tag: TaskTag) -> bool:
    return tag.status == TagStatus.DELETED
