"""How lists read the database where SQL says it better than the ORM."""

from collections.abc import Mapping, Sequence
from typing import Any

from django.db import InterfaceError, OperationalError, connection


def fetched(sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    """Return all rows of a query that writes nothing.

    A connection that was cut is made anew, once: an export goes on where it was, because it asks for its rows a part at
    a time.
    """
    try:
        return _fetched(sql, parameters)
    except (OperationalError, InterfaceError):
        if connection.in_atomic_block or connection.is_usable():
            raise
        connection.close()
        return _fetched(sql, parameters)


def _fetched(sql: str, parameters: Sequence[Any] | Mapping[str, Any]) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(sql, parameters)
        rows: list[Any] = cursor.fetchall()
        return rows
