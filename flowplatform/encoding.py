"""How values are written as JSON, in REST answers and in events alike."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import orjson
from pydantic import BaseModel


def encode(value: Any) -> bytes:
    """Encode a value as the API shows it: ids as text, times as ISO 8601 in UTC with a `Z`."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)


def array_of(texts: Iterable[str | None]) -> str:
    """Return texts as one text that PostgreSQL reads as an array: `%(names)s::text[]`, `%(ids)s::uuid[]`.

    psycopg takes lists too, but looks at every item several times: for a hundred it took longer than all validation.
    """
    items = list(texts)
    if items and None not in items:
        plain = '","'.join(items)  # type: ignore[arg-type]
        if "\\" not in plain and plain.count('"') == 2 * (len(items) - 1):  # nothing to escape: by far the most
            return f'{{"{plain}"}}'
    return "{" + ",".join(map(_quoted, items)) + "}"


def _quoted(text: str | None) -> str:
    if text is None:
        return "NULL"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def object_sql(schema: type[BaseModel], row: str, **instead: str) -> str:
    """Return the SQL that makes of a table's row the JSON object which `encode` makes of `schema`.

    `row` is the name of the row in the query. Fields are the columns of their names; `instead` has the SQL of those
    that are none. Times are written as `encode` writes them.
    """
    columns = []
    for name, field in schema.model_fields.items():
        value = instead.get(name, f"{row}.{name}")
        columns.append(f'{_time_sql(value) if field.annotation in _TIMES else value} AS "{name}"')
    return f"(SELECT row_to_json(object) FROM (SELECT {', '.join(columns)}) AS object)"  # noqa: S608  (our own names)


_TIMES = (datetime, datetime | None)


def _time_sql(value: str) -> str:
    text = f"""to_char({value} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
    return f"replace({text}, '.000000Z', 'Z')"
