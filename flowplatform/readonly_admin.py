"""Admin pages of what staff look at and nobody edits by hand: the API and its rules are the only writers."""

from typing import Any

from django.contrib import admin
from django.db.models import JSONField
from django.http import HttpRequest

from flowplatform.admin_lists import CappedPaginator, IdSearch, json_field


class ReadOnlyAdmin(IdSearch):
    """Lists and shows rows; does not add, change or delete them. Counting all rows of a log is left out."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # the number beside every choice of every filter is a count each
    change_list_template = "flowplatform/readonly_list.html"

    def __init__(self, model: Any, admin_site: Any) -> None:
        super().__init__(model, admin_site)
        names = [field.name for field in model._meta.fields if isinstance(field, JSONField)]
        self._json = {name: json_field(name) for name in names}

    def get_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Show JSON columns as text, in their places."""
        shown = self._json.values()
        return [self._json.get(name, name) for name in super().get_fields(request, obj) if name not in shown]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[Any]:
        """Name the texts of JSON columns among what is only shown."""
        return [*super().get_readonly_fields(request, obj), *self._json.values()]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
