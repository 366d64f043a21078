"""How lists are cut: numbered pages with a `Link` header, and parts by cursor, newest first."""

from typing import Any, TypeVar

from django.db import models
from rest_framework.request import Request

from flowplatform.cursors import decode_cursor, encode_cursor

MAX_PAGE = 10_000  # the contract's; who needs more narrows the list

Row = TypeVar("Row", bound=models.Model)


def page_of(rows: models.QuerySet[Row], request: Request, page: int, size: int) -> tuple[list[Row], dict[str, str]]:
    """Return page `page` (from 1) of `rows`, and the `Link` header that names the next one if there is more."""
    begin = (page - 1) * size
    found = list(rows[begin : begin + size + 1])
    is_last = len(found) <= size or page >= MAX_PAGE
    return found[:size], {} if is_last else _link_to_page(request, page + 1)


def _link_to_page(request: Request, page: int) -> dict[str, str]:
    query = request.query_params.copy()
    query["page"] = str(page)
    return {"Link": f'<{request.build_absolute_uri(request.path)}?{query.urlencode()}>; rel="next"'}


def part_of(
    rows: models.QuerySet[Row], *, by: str, place: str, cursor: str | None, limit: int
) -> tuple[list[Row], str | None]:
    """Return at most `limit` rows with descending `by`, a unique field that never changes, and the next cursor.

    `place` names the list; a cursor of another one is refused with 400. Rows that are added meanwhile are newer than
    every cursor, so nothing shifts.
    """
    if cursor is not None:
        rows = rows.filter(**{f"{by}__lt": decode_cursor(place, cursor)})
    found = list(rows.order_by(f"-{by}")[: limit + 1])
    if len(found) <= limit:
        return found, None
    return found[:limit], encode_cursor(place, _plain(getattr(found[limit - 1], by)))


def _plain(value: Any) -> Any:
    return value if isinstance(value, int) else str(value)
