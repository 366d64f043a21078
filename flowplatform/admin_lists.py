"""Lists of the admin that stay fast when tables are large: ids are found by an index, and nobody counts a whole log."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import get_fields_from_path
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet, UUIDField
from django.http import HttpRequest
from django.utils.functional import cached_property
from django.utils.text import smart_split, unescape_string_literal

COUNTED = 10_000  # rows of a list that are counted and paged through; older ones are found by search and filters


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


class IdSearch(admin.ModelAdmin):  # type: ignore[type-arg]
    """Searches those of `search_fields` that are UUIDs for whole ids, and only the others for parts of words.

    Django would turn every id into text to look for the search term within, which no index can help with.
    """

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Narrow to the rows that match every word; none of our lists searches over relations to many."""
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


def as_uuid(text: str) -> UUID | None:
    """Return the UUID that the text spells, if it does."""
    try:
        return UUID(text)
    except ValueError:
        return None


def _words(term: str) -> Iterator[str]:
    for bit in smart_split(term):
        yield unescape_string_literal(bit) if bit[0] in "\"'" and bit[0] == bit[-1] else bit


def _any_of(lookups: list[str], value: object) -> Q:
    return Q.create([(lookup, value) for lookup in lookups], connector=Q.OR)
