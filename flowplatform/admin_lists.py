"""Lists of the admin that stay fast when tables are large: ids are found by an index, and nobody counts a whole log.

And what their rows show: statuses with their colour, links, and a button that acts at one press.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.utils import get_fields_from_path, quote, unquote
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet, UUIDField
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils.functional import cached_property
from django.utils.html import format_html, format_html_join
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.text import smart_split, unescape_string_literal
from django.views.decorators.http import require_POST
from unfold.admin import ModelAdmin

from flowplatform.ids import as_uuid

COUNTED = 10_000  # rows of a list that are counted and paged through; older ones are found by search and filters
JSON_SHOWN = 20_000  # characters of a JSON column on its page
FOR_MEMBERS = "For members of the organization; others find nothing there"


class CappedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts and shows at most `COUNTED` rows: a count of millions takes longer than everything else on the page."""

    @cached_property
    def count(self) -> int:
        """How many rows there are, up to `COUNTED`."""
        rows: QuerySet[Any] = self.object_list  # type: ignore[assignment]
        return rows.order_by()[:COUNTED].count()

    @property
    def is_capped(self) -> bool:
        """Say whether there may be more rows than the list shows."""
        return self.count == COUNTED


class IdSearch(ModelAdmin):  # type: ignore[misc]
    """Searches those of `search_fields` that are UUIDs for whole ids, and only the others for parts of words.

    Django would turn every id into text to look for the search term within, which no index can help with.
    """

    list_filter_submit = True  # several filters are chosen, then applied at once
    list_fullwidth = True

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Refuse what no column can hold before a filter asks the database for it."""
        if any("\0" in text for name, texts in request.GET.lists() for text in texts if name != SEARCH_VAR):
            raise IncorrectLookupParameters
        return super().get_changelist_instance(request)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Refuse first: Django looks for the row first, and tells staff without permissions whether it is there."""
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        answer: HttpResponse = super().history_view(request, object_id, extra_context)
        return answer

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Narrow to the rows that match every word; none of our lists searches over relations to many."""
        if "\0" in search_term:  # no column can hold it, and the database refuses the question
            return queryset.none(), False
        for word in _words(search_term):
            queryset = self.matching(queryset, word, self.get_search_fields(request))
        return queryset, False

    def matching(self, queryset: QuerySet[Any], word: str, names: Any) -> QuerySet[Any]:
        """Narrow to the rows with an id that is `word`, or, where it is none, with a text that contains it."""
        ids = [name for name in names if isinstance(get_fields_from_path(self.model, name)[-1], UUIDField)]
        texts = [f"{name}__icontains" for name in names if name not in ids]
        wanted = as_uuid(word)
        if wanted and ids:
            return queryset.filter(_any_of(ids, wanted))
        return queryset.filter(_any_of(texts, word)) if texts else queryset.none()


class WithButton(IdSearch):
    """Gives every row and its page a button that acts at one press: a POST, so no link and no reload does it again."""

    button = ""  # the last part of its address
    button_label = ""

    def may_press(self, request: HttpRequest) -> bool:
        """Say whether the person may press it at all; to others it is not shown."""
        raise NotImplementedError

    def offers_button(self, row: Any) -> bool:
        """Say whether there is anything to do in this row."""
        raise NotImplementedError

    def pressed(self, request: HttpRequest, row: Any) -> None:
        """Do it, and tell the person by a message."""
        raise NotImplementedError

    def get_urls(self) -> list[URLPattern]:
        """Add the address of the button."""
        name = f"{self.opts.app_label}_{self.opts.model_name}_{self.button}"
        view = self.admin_site.admin_view(require_POST(self._button_view))
        return [path(f"<path:object_id>/{self.button}/", view, name=name), *super().get_urls()]

    def get_list_display(self, request: HttpRequest) -> tuple[Any, ...]:
        """Show the button to those who may press it."""
        return self._and_button(request, super().get_list_display(request))

    def _and_button(self, request: HttpRequest, names: Iterable[Any]) -> tuple[Any, ...]:
        return (*names, "row_button") if self.may_press(request) else tuple(names)

    @admin.display(description="", empty_value="")
    def row_button(self, row: Any) -> str | None:
        """The button, where there is anything to do."""
        if not self.offers_button(row):
            return None
        address = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{self.button}", args=[quote(row.pk)])
        return post_button(address, self.button_label, of=str(row))

    def _button_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        if not self.may_press(request):
            raise PermissionDenied
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        self.pressed(request, row)
        return self._back(request)

    def _back(self, request: HttpRequest) -> HttpResponse:
        """Return to the page that was pressed on, with its filters."""
        came_from = request.META.get("HTTP_REFERER", "")
        hosts = {request.get_host()}
        if not url_has_allowed_host_and_scheme(came_from, hosts, require_https=request.is_secure()):
            came_from = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        return HttpResponseRedirect(came_from)


def post_button(address: str, label: str, *, of: str = "") -> str:
    """Return a button that posts to an address of the admin, wherever on a page it stands; `of` tells it by ear."""
    return format_html(
        '<button form="post-button" formaction="{}" class="post-button"{}>{}</button>',
        address,
        format_html(' aria-label="{}: {}"', label, of) if of else "",
        label,
    )


def status_badge(status: str | None) -> str | None:
    """Return a status as a badge; `statuses.js` gives it the colour that it has everywhere."""
    return format_html('<span class="status" data-status="{0}">{0}</span>', status) if status else None


def json_field(name: str) -> Callable[[Any], str]:
    """Return a field of an admin page that shows a JSON column as text; unfold's colours would be inline styles."""

    def show(row: Any) -> str:
        value = getattr(row, name)
        if value is None:
            return "-"
        text = json.dumps(value, indent=2, ensure_ascii=False)
        shown, more = text[:JSON_SHOWN], len(text) - JSON_SHOWN
        rest = f"\n… and {more:,} characters more" if more > 0 else ""
        return format_html('<pre class="json" tabindex="0">{}{}</pre>', shown, rest)

    show.__name__ = name
    show.short_description = name.replace("_", " ")  # type: ignore[attr-defined]
    return show


def links(*pairs: tuple[str, str], page: str = "", page_title: str = "Page") -> str:
    """Return addresses and their words as links beside each other, before them one to a page of members."""
    of_members = format_html('<a href="{}" title="{}">{}</a> ', page, FOR_MEMBERS, page_title) if page else ""
    others = format_html_join(" ", '<a href="{}">{}</a>', pairs)
    return format_html('<span class="links">{}{}</span>', of_members, others)


def list_address(model: str, **query: object) -> str:
    """Return the address of a model's list, `executions_taskstatus` say, with a search (`q`) or filters."""
    return f"{reverse(f'admin:{model}_changelist')}?{urlencode(query)}"


def _words(term: str) -> Iterator[str]:
    for bit in smart_split(term):
        yield unescape_string_literal(bit) if bit[0] in "\"'" and bit[0] == bit[-1] else bit


def _any_of(lookups: list[str], value: object) -> Q:
    return Q.create([(lookup, value) for lookup in lookups], connector=Q.OR)
