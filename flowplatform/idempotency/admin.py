"""Staff's view of the keys."""

from django.contrib import admin

from flowplatform.idempotency.models import IdempotencyKey
from flowplatform.readonly_admin import ReadOnlyAdmin


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    """Keys of the last 24 hours."""

    list_display = ("key", "owner", "expires_at")
    search_fields = ("key", "owner")
