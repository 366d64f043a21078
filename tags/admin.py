"""Staff's view of tags and their trail: removed ones are shown, and can be restored as new rows."""

from datetime import datetime

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from rest_framework.exceptions import NotFound

from executions.models import ExecutionStatus
from flowplatform.accounts.models import User
from flowplatform.accounts.organization_filter import OrganizationFilter
from flowplatform.accounts.services import actor_of_staff
from flowplatform.readonly_admin import ReadOnlyAdmin
from tags.models import TagStatus, TaskTag
from tags.services import restore_task_tags


@admin.register(TaskTag)
class TaskTagAdmin(ReadOnlyAdmin):
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
    list_filter = ("status", OrganizationFilter.through("flow_execution"))
    list_select_related = ("flow_execution",)
    search_fields = ("tag", "task_name", "flow_execution__id", "id")
    actions = ("restore",)

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
    def removed_at(self, tag: TaskTag) -> datetime | None:
        """When it was removed."""
        return tag.updated_at if _is_removed(tag) else None

    @admin.action(description="Restore the selected tags (new rows; the trail stays)", permissions=["restore"])
    def restore(self, request: HttpRequest, queryset: QuerySet[TaskTag]) -> None:
        """Add removed tags again, in the name of the staff member, and say what became of every selected one."""
        assert isinstance(request.user, User)
        selected = list(queryset.select_related("flow_execution"))
        removed = [tag for tag in selected if _is_removed(tag)]
        of_deleted = [tag for tag in removed if tag.flow_execution.status == ExecutionStatus.DELETED]
        try:
            restored = restore_task_tags(actor=actor_of_staff(request.user), tags=removed)
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
