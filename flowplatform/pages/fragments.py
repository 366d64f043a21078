"""Lists that stay up to date: a page that answers with its list alone when its script asks for that."""

from typing import Any

from django.http import HttpResponse
from django.utils.cache import patch_vary_headers

from flowplatform.pages.base import MemberPage

HEADER = "X-Fragment"


class LiveListPage(MemberPage):
    """A page with a list that `live-list.js` keeps up to date.

    `list_template` is the part of the page that it asks for, `list_id` the id of its outermost element.
    """

    list_id: str
    list_template: str

    @property
    def is_fragment(self) -> bool:
        """Whether only the list is asked for."""
        return self.request.headers.get(HEADER) == self.list_id

    def get_template_names(self) -> list[str]:
        return [self.list_template] if self.is_fragment else super().get_template_names()

    def render_to_response(self, context: dict[str, Any], **response_kwargs: Any) -> HttpResponse:
        response = super().render_to_response(context, **response_kwargs)
        patch_vary_headers(response, [HEADER])
        return response
