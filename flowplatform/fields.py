"""A JSON column that keeps numbers as they were written."""

from typing import Any

import orjson
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.types.json import Json


class ExactJSONField(models.JSONField):
    """JSON as PostgreSQL's `json`: the text that was sent, not `jsonb`.

    jsonb turns numbers into decimals and writes 1e308 back with 309 digits: a body of 1 MiB becomes 50, and an integer
    beyond 64 bits comes back where a float was stored. For documents that are stored and shown, never searched: `json`
    has no equality, so the column cannot be filtered by value.
    """

    def db_type(self, connection: BaseDatabaseWrapper) -> str:
        return "json"

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        return value if value is None or hasattr(value, "as_sql") else Json(value, dumps=orjson.dumps)

    def from_db_value(self, value: Any, expression: Any, connection: BaseDatabaseWrapper) -> Any:
        return value  # psycopg has decoded it

    def get_internal_type(self) -> str:
        return "ExactJSONField"
