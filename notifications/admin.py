"""Staff's view of the event log: where the streams stand, and what waits for a number."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, DurationField, Exists, ExpressionWrapper, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Now
from django.http import HttpRequest, HttpResponse
from django.urls import URLPattern, path
from django.utils.html import format_html
from django.views.decorators.http import require_POST
from unfold.contrib.filters.admin import DropdownFilter

from flowplatform.accounts.models import Organization
from flowplatform.accounts.organization_filter import OrganizationFilter
from flowplatform.admin_lists import WithButton
from flowplatform.audit.authors import requester
from flowplatform.audit.vocabulary import Action
from flowplatform.audit.writing import Entry, Subject, record_alone
from flowplatform.ids import as_uuid
from flowplatform.readonly_admin import ReadOnlyAdmin
from notifications.backlog import LATE, as_text
from notifications.models import Event, Stream
from notifications.relay import flows_waiting
from notifications.retry import MOST, retry

TYPES_AMONG = 1_000  # the newest events whose types are offered: looking through the whole log takes too long


def outbox() -> QuerySet[Event]:
    """Return the events of a stream that wait for a number, for use in a query over streams."""
    return Event.objects.filter(flow_id=OuterRef("flow_id"), offset__isnull=True)


def _age(since: Any) -> "ExpressionWrapper[Any]":
    return ExpressionWrapper(Now() - since, output_field=DurationField())


def _retry(request: HttpRequest, flow_ids: Sequence[UUID]) -> None:
    """Relay what waits in these flows, record who wanted it, and say what became of it."""
    retried = retry(flow_ids)
    subject = Subject("flow", str(*flow_ids)) if len(flow_ids) == 1 else Subject("flow", text=f"{len(flow_ids)} flows")
    details = {"flows": len(retried.flows), "events": retried.events, "failed": retried.failed, "left": retried.left}
    record_alone(Entry(Action.EVENTS_RETRIED, requester(request), subject=subject, details=details))
    for level, text in retried.sentences():
        messages.add_message(request, level, text)


def _shown_age(age: Any) -> str:
    """Return an age for a column; one that is a fault stands out."""
    mark = '<strong class="fault">{} (fault)</strong>' if age > LATE else "{}"
    return format_html(mark, as_text(age))


class BacklogFilter(DropdownFilter):  # type: ignore[misc]
    """Streams by what waits in them."""

    title = "backlog"
    parameter_name = "backlog"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the streams where anything waits, and those where it waits for too long."""
        seconds = int(LATE.total_seconds())
        return [("waiting", "Events wait"), ("late", f"For more than {seconds} s (a fault)"), ("none", "None waits")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the choice."""
        choices = {
            "waiting": Exists(outbox()),
            "late": Exists(outbox().filter(created_at__lt=Now() - LATE)),
            "none": ~Exists(outbox()),
        }
        chosen = self.value() or ""
        narrowed: QuerySet[Any] = queryset.filter(choices[chosen]) if chosen in choices else queryset
        return narrowed


class NumberFilter(DropdownFilter):  # type: ignore[misc]
    """Events by whether the relay has numbered them."""

    title = "number"
    parameter_name = "number"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer both."""
        return [("waiting", "Waits for one"), ("given", "Has one")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the choice."""
        choices = {"waiting": True, "given": False}
        chosen = self.value() or ""
        return queryset.filter(offset__isnull=choices[chosen]) if chosen in choices else queryset


class RecentTypeFilter(DropdownFilter):  # type: ignore[misc]
    """Events by type. The types are those of the newest events."""

    title = "type"
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the types in use."""
        newest = Event.objects.order_by("-pk").values_list("type", flat=True)[:TYPES_AMONG]
        return [(name, name) for name in sorted(set(newest))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the type."""
        return queryset.filter(type=self.value()) if self.value() else queryset


@admin.register(Stream)
class StreamAdmin(WithButton, ReadOnlyAdmin):
    """Streams, and what waits in each. What waits can be relayed from here, without worker and broker."""

    change_list_template = "notifications/list_with_backlog.html"
    list_display = ("flow_id", "organization", "offset", "waiting", "oldest", "pruned_offset", "epoch")
    list_filter = (BacklogFilter, OrganizationFilter)
    list_select_related = ("organization",)
    search_fields = ("flow_id",)
    search_help_text = "The whole id of a flow"
    actions = ("retry_selected",)
    button, button_label = "retry", "Relay now"

    def get_urls(self) -> list[URLPattern]:
        """Add the address that relays whatever waits."""
        view = self.admin_site.admin_view(require_POST(self._retry_all))
        return [path("retry/", view, name="notifications_stream_retry_all"), *super().get_urls()]

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Whoever may change streams may have them relayed; nobody edits a row."""
        return request.user.has_perm("notifications.change_stream")

    def may_press(self, request: HttpRequest) -> bool:
        """Let those retry who may."""
        return self.has_retry_permission(request)

    def offers_button(self, row: Any) -> bool:
        """Relay where something waits."""
        return bool(row.waiting)

    def pressed(self, request: HttpRequest, row: Any) -> None:
        """Relay one stream."""
        _retry(request, [row.pk])

    @admin.action(description="Relay what waits in the selected streams now", permissions=["retry"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Relay several streams."""
        _retry(request, list(queryset.values_list("pk", flat=True)))

    def _retry_all(self, request: HttpRequest) -> HttpResponse:
        if not self.has_retry_permission(request):
            raise PermissionDenied
        _retry(request, flows_waiting(older_than=timedelta(0), limit=MOST + 1))
        return self._back(request)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Count what waits, by the index that holds nothing else."""
        counted = outbox().order_by().values("flow_id").annotate(count=Count("pk")).values("count")
        first = outbox().order_by("pk").values("created_at")[:1]
        waits = {"waiting": Coalesce(Subquery(counted), 0), "oldest": _age(Subquery(first))}
        streams: QuerySet[Any] = super().get_queryset(request).annotate(**waits)
        return streams

    @admin.display(description="events waiting", ordering="waiting")
    def waiting(self, stream: Any) -> int:
        """How many events wait for a number."""
        return int(stream.waiting)

    @admin.display(description="the oldest for", ordering="oldest", empty_value="-")
    def oldest(self, stream: Any) -> str | None:
        """How long the oldest of them has waited."""
        return None if stream.oldest is None else _shown_age(stream.oldest)


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    """Events, newest first; one without an offset waits for the relay. No other order has an index."""

    change_list_template = "notifications/list_with_backlog.html"
    list_display = ("id", "number", "type", "flow_id", "flow_execution_id", "organization", "created_at")
    list_filter = (NumberFilter, RecentTypeFilter, OrganizationFilter)
    search_fields = ("flow_id", "flow_execution_id")
    search_help_text = "The whole id of a flow or execution"
    sortable_by = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Add the organization's name, which no foreign key leads to, and the age."""
        names = Organization.objects.filter(pk=OuterRef("organization_id")).values("name")
        told = {"organization": Subquery(names), "age": _age(F("created_at"))}
        events: QuerySet[Any] = super().get_queryset(request).annotate(**told)
        return events

    def matching(self, queryset: QuerySet[Any], word: str, names: Any) -> QuerySet[Any]:
        """Look for a flow first. Both halves of the log have an index by flow, if the query names the half."""
        flow_id = as_uuid(word)
        streams = Stream.objects.filter(flow_id=flow_id) if flow_id else Stream.objects.none()
        owners = streams.values("organization_id")  # what has a number is found by both
        numbered = Q(organization_id=Subquery(owners), flow_id=flow_id, offset__isnull=False)
        of_flow = numbered | Q(flow_id=flow_id, offset__isnull=True)
        if flow_id and Event.objects.filter(of_flow).exists():
            return queryset.filter(of_flow)
        return super().matching(queryset, word, names)

    @admin.display
    def organization(self, event: Any) -> str:
        """The organization's name."""
        return str(event.organization or event.organization_id)

    @admin.display
    def number(self, event: Any) -> str:
        """The offset, or how long the event has waited for one."""
        return format_html("waits for {}", _shown_age(event.age)) if event.offset is None else str(event.offset)
