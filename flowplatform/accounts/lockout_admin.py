"""Staff's view of sign-ins that failed: who is locked out, and the button that lets them try again."""

from typing import Any

from axes.models import AccessAttempt
from django.conf import settings
from django.contrib import admin, messages
from django.db import transaction
from django.db.models import OuterRef, QuerySet, Subquery, Sum
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from unfold.contrib.filters.admin import DropdownFilter

from flowplatform.admin_lists import WithButton
from flowplatform.audit import sign_ins
from flowplatform.audit.authors import requester
from flowplatform.audit.vocabulary import Action
from flowplatform.audit.writing import Entry, record
from flowplatform.readonly_admin import ReadOnlyAdmin


def counting() -> QuerySet[AccessAttempt]:
    """Return the attempts that still count."""
    since = timezone.now() - settings.AXES_COOLOFF_TIME
    attempts: QuerySet[AccessAttempt] = AccessAttempt.objects.filter(attempt_time__gte=since)
    return attempts


class LockedFilter(DropdownFilter):  # type: ignore[misc]
    """Failed sign-ins by what they led to."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer both."""
        return [("locked", "Locked out"), ("open", "May try again")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the choice."""
        locked = {"failures__gte": settings.AXES_FAILURE_LIMIT}
        choices = {"locked": queryset.filter(**locked), "open": queryset.exclude(**locked)}
        narrowed: QuerySet[Any] = choices.get(self.value() or "", queryset)
        return narrowed


@admin.register(AccessAttempt)
class FailedSignInAdmin(WithButton, ReadOnlyAdmin):
    """Failed sign-ins of the last minutes, by name, address and browser. A name is locked out at one address."""

    list_display = ("username", "ip_address", "state", "failures_since_start", "attempt_time", "path_info")
    list_filter = (LockedFilter,)
    ordering = ("-attempt_time",)
    search_fields = ("username", "ip_address")
    exclude = ("get_data", "post_data")  # the form, without the password
    readonly_fields = ("state",)
    button, button_label = "unlock", "Let try again"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Count the failures of a name at an address over all browsers: that is what locks it out."""
        alike = counting().filter(username=OuterRef("username"), ip_address=OuterRef("ip_address")).order_by()
        total = alike.values("username", "ip_address").annotate(n=Sum("failures_since_start")).values("n")
        attempts: QuerySet[Any] = super().get_queryset(request).annotate(failures=Subquery(total))
        return attempts

    @admin.display
    def state(self, attempt: Any) -> str:
        """Whether the name is locked out at the address."""
        if not self.offers_button(attempt):
            return "may try again"
        return format_html('<strong class="fault">{}</strong>', "locked out")

    def may_press(self, request: HttpRequest) -> bool:
        """Let those who may delete failed sign-ins forget them; rows are not deleted one by one."""
        return bool(request.user.has_perm("axes.delete_accessattempt"))

    def offers_button(self, row: Any) -> bool:
        """Unlock what is locked."""
        return bool((row.failures or 0) >= settings.AXES_FAILURE_LIMIT)

    def pressed(self, request: HttpRequest, row: Any) -> None:
        """Forget the failures of the name at the address."""
        self.log_change(request, row, f"Let {row.username} try again from {row.ip_address}.")
        with transaction.atomic():
            AccessAttempt.objects.filter(username=row.username, ip_address=row.ip_address).delete()
            details = {"address": row.ip_address}
            record(
                Entry(
                    Action.UNLOCKED, requester(request), subject=sign_ins.subject_named(row.username), details=details
                )
            )
        messages.success(request, f"{row.username} may sign in from {row.ip_address} again.")
