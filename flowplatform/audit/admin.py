"""Staff's view of the audit record. Nobody adds, changes or deletes there, whatever their permissions."""

from calendar import monthrange
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from unfold.contrib.filters.admin import ChoicesDropdownFilter, DropdownFilter

from flowplatform.accounts.models import Organization
from flowplatform.accounts.organization_filter import OrganizationFilter
from flowplatform.audit.authors import known_address
from flowplatform.audit.models import Record
from flowplatform.audit.retention import RECORD
from flowplatform.audit.vocabulary import Action, Kind
from flowplatform.ids import IS_ULID, as_uuid
from flowplatform.monthly import month_of
from flowplatform.readonly_admin import ReadOnlyAdmin

_LAST_WORDS = {"hour": "Last hour", "day": "Last 24 hours", "week": "Last 7 days", "month": "Last 30 days"}
_LAST = {"hour": timedelta(hours=1), "day": timedelta(days=1), "week": timedelta(days=7), "month": timedelta(days=30)}


class ActionFilter(DropdownFilter):  # type: ignore[misc]
    """Records by action: one, or all of a kind."""

    title = "action"
    parameter_name = "action"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the vocabulary."""
        kinds = {action.partition(".")[0] for action in Action.values if "." in action} - set(Action.values)
        offered = [*Action.values, *(f"{kind}.*" for kind in kinds)]
        return [(name, name) for name in sorted(offered)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the choice."""
        chosen = self.value() or ""
        if chosen.endswith(".*"):
            return queryset.filter(action__startswith=chosen.removesuffix("*"))
        return queryset.filter(action=chosen) if chosen else queryset


class TimeFilter(DropdownFilter):  # type: ignore[misc]
    """Records by time: the last hour, day, week or thirty days, a month that is kept, and a day of the chosen month.

    Django's date hierarchy would read the whole record to learn which days it has; partitions tell the months.
    """

    title = "time (UTC)"
    parameter_name = "time"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the last while, the months until now, and the days of the month that is chosen."""
        now = timezone.now()
        begins = [partition.begin for partition in RECORD.partitions() if partition.begin and partition.begin <= now]
        chosen = request.GET.get(self.parameter_name, "")[:7]
        days = [f"{chosen}-{day:02}" for begin in begins if f"{begin:%Y-%m}" == chosen for day in _days_of(begin)]
        offered = [f"{begin:%Y-%m}" for begin in reversed(begins)]
        return [*_LAST_WORDS.items(), *((text, text) for text in [*days, *offered])]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the choice."""
        chosen = self.value() or ""
        if chosen in _LAST:
            return queryset.filter(created_at__gte=timezone.now() - _LAST[chosen])
        if span := _span_of(chosen):
            return queryset.filter(created_at__gte=span[0], created_at__lt=span[1])
        return queryset


def _days_of(month: datetime) -> range:
    return range(1, monthrange(month.year, month.month)[1] + 1)


def _span_of(text: str) -> tuple[datetime, datetime] | None:
    """Return the beginning and the end of `2026-03` or `2026-03-14`, in UTC."""
    for form, days in (("%Y-%m-%d", 1), ("%Y-%m", 31)):
        try:
            begin = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        end = begin + timedelta(days=days)
        return begin, end if days == 1 else month_of(end)
    return None


@admin.register(Record)
class RecordAdmin(ReadOnlyAdmin):
    """Who did or tried what, newest first."""

    list_display = ("at", "action", "result", "actor", "subject", "organization", "address")
    list_filter = (
        TimeFilter,
        ActionFilter,
        ("outcome", ChoicesDropdownFilter),
        ("actor_kind", ChoicesDropdownFilter),
        OrganizationFilter,
    )
    search_fields = ("actor_name", "subject_text", "subject_id")
    search_help_text = "Words of actor or subject; a whole id, also of an organization or a request; an address"
    ordering = ("-position",)
    sortable_by = ()
    list_display_links = ("at", "action")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Add the organization's name, which no foreign key leads to: it may be gone."""
        names = Organization.objects.filter(pk=OuterRef("organization_id")).values("name")
        records: QuerySet[Any] = super().get_queryset(request).annotate(organization_name=Subquery(names))
        return records

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Show when, what, who, about what and the details, then by what it is found elsewhere."""
        told = ("at", "action", "result", "actor", "subject", "organization", self._json["details"])
        return [*told, "address", "request_id", "actor_id", "subject_id", "organization_id"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Let nobody edit any of it."""
        return self.get_fields(request, obj)

    def matching(self, queryset: QuerySet[Any], word: str, names: Any) -> QuerySet[Any]:
        """Look for what has an index by that: a request, an actor with their kind. Subjects' ids are kept as text."""
        if IS_ULID.fullmatch(word):
            return queryset.filter(request_id=word)
        if wanted := as_uuid(word):
            return queryset.filter(Q(actor_id=wanted) | Q(subject_id=str(wanted)) | Q(organization_id=wanted))
        if word.partition(":")[0] in Kind.values and ":" in word:
            return queryset.filter(actor_name=word)
        if address := known_address(word):
            return queryset.filter(address=address)
        return super().matching(queryset, word, names)

    @admin.display(description="time (UTC)")
    def at(self, record: Record) -> str:
        """When, to the second, so that lines can be compared with those of other logs."""
        return f"{record.created_at:%Y-%m-%d %H:%M:%S}"

    @admin.display(description="outcome")
    def result(self, record: Record) -> str:
        """What became of it; a refusal stands out."""
        state, glyph = ("completed", "✓") if record.outcome == "done" else ("failed", "✕")
        mark = '<span class="status" data-state="{}"><span aria-hidden="true">{}</span>{}</span>'
        return format_html(mark, state, glyph, record.outcome)

    @admin.display
    def actor(self, record: Record) -> str:
        """Who."""
        return record.actor_name

    @admin.display(description="subject")
    def subject(self, record: Record) -> str:
        """About what."""
        return f"{record.subject_type} {record.subject_text or record.subject_id}".strip()

    @admin.display
    def organization(self, record: Any) -> str | None:
        """The organization's name, or the id of one that is gone."""
        name: str | None = record.organization_name
        return name or (str(record.organization_id) if record.organization_id else None)
