"""The one JSON parser of the API: strict, so that nothing reaches PostgreSQL that it would refuse."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import IO, Any

import orjson
from rest_framework.parsers import BaseParser

from flowplatform.errors import BadRequest, Unprocessable

MAX_DEPTH = 16

_CONTAINERS = (dict, list)


class StrictJSONParser(BaseParser):
    """Parses a body of at most 16 levels, without NaN, Infinity, lone surrogates and NUL characters.

    Raises 400 for one that is not JSON, 422 for a value that no field may hold. How large it is was looked at before
    (`flowplatform/bodies.py`).
    """

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        return parse_json(stream.read())


def parse_json(body: bytes) -> Any:
    """Return the value of a JSON text; raise 400 if it is none, 422 where a value may not be stored."""
    if not body:
        raise BadRequest("The body is empty; JSON is expected.")
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error}") from None
    if b"\\u0000" in body or not _is_flat_enough(value):
        _refuse_unstorable(value)
    return value


def _is_flat_enough(value: Any) -> bool:
    """Say whether a value has at most `MAX_DEPTH` levels. Only containers are looked into, a level at a time."""
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(MAX_DEPTH):
        inner = chain.from_iterable(each.values() if type(each) is dict else each for each in level)
        level = [each for each in inner if type(each) in _CONTAINERS]
        if not level:
            return True
    return False


def _refuse_unstorable(value: Any) -> None:
    """Raise 422 naming the place of the first NUL character or of a nesting too deep."""
    pending: list[tuple[tuple[str | int, ...], Any]] = [(("body",), value)]
    while pending:
        path, value = pending.pop()
        if isinstance(value, str):
            _refuse_nul(path, value)
        elif isinstance(value, dict | list):
            if len(path) > MAX_DEPTH:
                message = f"JSON may not be nested deeper than {MAX_DEPTH} levels"
                raise Unprocessable([{"loc": list(path), "msg": message, "type": "too_deep"}])
            pending.extend(_children(path, value))


def _children(path: tuple[str | int, ...], value: dict[str, Any] | list[Any]) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, list):
        for index, item in enumerate(value):
            yield (*path, index), item
        return
    for key, item in value.items():
        _refuse_nul(path, key)
        yield (*path, key), item


def _refuse_nul(path: tuple[str | int, ...], text: str) -> None:
    if "\0" in text:
        raise Unprocessable([{"loc": list(path), "msg": "NUL characters are not allowed", "type": "string_nul"}])
