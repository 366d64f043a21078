"""Staff's view of the keys."""

from django.contrib import admin

from flowplatform.accounts.organization_filter import OrganizationFilter
from flowplatform.idempotency.models import IdempotencyKey
from flowplatform.readonly_admin import ReadOnlyAdmin


class OwnerFilter(OrganizationFilter):
    """The keys that belong to the organization. Who acts in several has keys of their own, in none of them."""

    path = "owner"


@admin.register(IdempotencyKey)
class IdempotencyKeyAdmin(ReadOnlyAdmin):
    """Keys of the last 24 hours."""

    list_display = ("key", "owner", "expires_at")
    list_filter = (OwnerFilter,)
    search_fields = ("key", "owner")
