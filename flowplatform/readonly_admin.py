"""Admin pages of what staff look at and nobody edits by hand: the API and its rules are the only writers."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from flowplatform.admin_lists import CappedPaginator, IdSearch


class ReadOnlyAdmin(IdSearch):
    """Lists and shows rows; does not add, change or delete them. Counting all rows of a log is left out."""

    paginator = CappedPaginator
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER  # the number beside every choice of every filter is a count each
    change_list_template = "flowplatform/readonly_list.html"

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
