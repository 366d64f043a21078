"""Staff's view of the event log: where the streams stand and what waits for a number."""

from django.contrib import admin

from flowplatform.readonly_admin import ReadOnlyAdmin
from notifications.models import Event, Stream


@admin.register(Stream)
class StreamAdmin(ReadOnlyAdmin):
    """Streams."""

    list_display = ("flow_id", "organization", "offset", "pruned_offset", "epoch")
    list_filter = ("organization",)
    list_select_related = ("organization",)
    search_fields = ("flow_id",)


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """Events; one without an offset waits for the relay."""

    list_display = ("id", "type", "flow_id", "offset", "created_at")
    list_filter = (("offset", admin.EmptyFieldListFilter), "type")
    search_fields = ("flow_id", "flow_execution_id")
