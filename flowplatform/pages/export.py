"""Lists as files, CSV or JSON: written and sent a part at a time, so that the length of a list costs no memory.

Rows come in parts that are each a short query after the last row of the one before, not from a cursor that is held
open: no statement runs for long, and no transaction waits for a slow reader.
"""

import csv
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from io import StringIO
from itertools import chain, islice
from typing import Any, TypeVar

import orjson
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.utils.http import content_disposition_header
from django.utils.text import slugify

from flowplatform import tenancy
from flowplatform.encoding import encode

PART_BYTES = 32 * 1024

_BROKEN_OFF = {"csv": b"\r\nTHIS FILE IS INCOMPLETE: something went wrong here. Export it again.\r\n"}

# A cell that begins with one of these is a formula, or becomes one, in a spreadsheet (OWASP, "CSV Injection"). The
# wide forms are what spreadsheets in East Asia take for the same.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
_TIMES = "%Y-%m-%dT%H:%M:%S.%fZ"

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]
Item = TypeVar("Item")


class Encoded:
    """JSON as the database has it: a large number stays the number it is."""

    def __init__(self, text: str) -> None:
        self.text = text


def encoded(text: str | None) -> Encoded | None:
    """Take the text of a JSON column."""
    return None if text is None else Encoded(text)


def export_response(file_type: str, title: str, columns: Sequence[str], rows: Iterable[Row]) -> StreamingHttpResponse:
    """Answer with rows as a file of this type, named after `title`; 404 for a type that there is not."""
    if file_type not in _TYPES:
        raise Http404
    content_type, write = _TYPES[file_type]
    parts = _or_broken_off(_gathered(write(columns, _shown(rows))), _BROKEN_OFF.get(file_type, b""))
    response = StreamingHttpResponse(parts, content_type=content_type)
    disposition = content_disposition_header(True, f"{slugify(title) or 'export'}.{file_type}")
    response["Content-Disposition"] = disposition or "attachment"
    return response


def _shown(rows: Iterable[Row]) -> Iterator[Row]:
    """Read rows for whom they are asked now: the server takes them when the request has ended for everybody else."""
    rest, shown = iter(rows), tenancy.shown()

    def read() -> Iterator[Row]:
        while True:
            with tenancy.showing(shown):
                try:
                    row = next(rest)
                except StopIteration:
                    return
            yield row

    return read()


def refusal(problems: Iterable[str]) -> HttpResponse:
    """Answer that a filter was not understood: a file of everything, or of nothing, would look like its result."""
    return HttpResponse("\n".join(problems), status=400, content_type="text/plain; charset=utf-8")


def _or_broken_off(parts: Iterable[bytes], last_words: bytes) -> Iterator[bytes]:
    """Pass parts on; if there is an error, end with `last_words`.

    The status is sent by then, and not every server cuts the connection when a body ends early: what arrived would look
    like all there is. JSON says it by lacking its end.
    """
    try:
        yield from parts
    except Exception:
        logger.exception("an export broke off")
        yield last_words


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Join small pieces to parts that are worth sending. The first goes at once: a filter may let pass few and late."""
    rest = iter(pieces)
    yield next(rest)
    part: list[bytes] = []
    size = 0
    for piece in rest:
        part.append(piece)
        size += len(piece)
        if size >= PART_BYTES:
            yield b"".join(part)
            part, size = [], 0
    yield b"".join(part)


def in_parts(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield items by `size` at a time, the last ones by fewer."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


# --- CSV ---


def _csv(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[bytes]:
    """Write CSV as RFC 4180 says, in UTF-8 with the mark at its beginning that Excel needs to see that."""
    buffer = StringIO(newline="")
    writer = csv.writer(buffer)
    yield b"\xef\xbb\xbf"
    for cells in chain([columns], ([_cell(row[name]) for name in columns] for row in rows)):
        writer.writerow(cells)
        yield buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()


def _cell(value: Any) -> str | int | float:
    """Write a value as a cell. Numbers stay numbers; a text that could be a formula gets an apostrophe."""
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case int() | float():
            return value
        case datetime():
            return f"{value:{_TIMES}}"
        case list():
            return _harmless("; ".join(value))
        case Encoded():
            return _harmless(value.text)
    return _harmless(str(value))


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


# --- JSON ---


def _json(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[bytes]:
    """Write an array, a line for each object."""
    yield b"["
    before = b"\n"
    for row in rows:
        yield before + encode({name: _json_value(row[name]) for name in columns})
        before = b",\n"
    yield b"\n]\n"


def _json_value(value: Any) -> Any:
    return orjson.Fragment(value.text) if isinstance(value, Encoded) else value


_TYPES = {
    "csv": ("text/csv; charset=utf-8", _csv),
    "json": ("application/json", _json),
}
