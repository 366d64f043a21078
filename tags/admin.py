"""Staff's view of tags and their trail: removed ones are shown, and can be restored as new rows."""

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from flowplatform.accounts.models import User
from flowplatform.accounts.services import actor_of_staff
from flowplatform.readonly_admin import ReadOnlyAdmin
from tags.models import TagStatus, TaskTag
from tags.services import restore_task_tags


@admin.register(TaskTag)
class TaskTagAdmin(ReadOnlyAdmin):
    """Tags, removed ones included."""

    list_display = ("tag", "tag_type", "task_name", "status", "created_by", "created_at", "modified_by", "updated_at")
    list_filter = ("status", "organization")
    search_fields = ("flow_execution__id", "id")
    actions = ("restore",)

    @admin.action(description="Restore the selected tags (new rows; the trail stays)", permissions=["restore"])
    def restore(self, request: HttpRequest, queryset: QuerySet[TaskTag]) -> None:
        """Add removed tags again, in the name of the staff member."""
        assert isinstance(request.user, User)
        removed = list(queryset.filter(status=TagStatus.DELETED).select_related("flow_execution"))
        restored = restore_task_tags(actor=actor_of_staff(request.user), tags=removed)
        messages.success(request, f"{restored} tags restored.")

    def has_restore_permission(self, request: HttpRequest) -> bool:
        """Whoever may change tags may restore them; nobody edits a row."""
        return request.user.has_perm("tags.change_tasktag")
