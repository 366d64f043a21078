"""Parameters: the headers that operations share, and query parameters from pydantic models."""

from typing import Any

from drf_spectacular.utils import OpenApiParameter
from pydantic import BaseModel

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255, "examples": ["batch-2026-11-22-0815"]},
    OpenApiParameter.HEADER,
    description="The same key with the same body replays the first answer and writes nothing; kept 24 hours.",
)
ORGANIZATION = OpenApiParameter(
    "X-Organization",
    {"type": "string", "examples": ["acme"]},
    OpenApiParameter.HEADER,
    description="The slug of the organization that the flow goes to. Needed by whoever acts in several organizations.",
)


def query_parameters(schema: type[BaseModel]) -> list[OpenApiParameter]:
    """Return the fields of a query schema as documented parameters."""
    properties = schema.model_json_schema()
    required = set(properties.get("required", ()))
    return [
        OpenApiParameter(
            name,
            _plain(field, properties.get("$defs", {})),
            OpenApiParameter.QUERY,
            required=name in required,
            description=field.get("description", ""),
            default=field.get("default"),
        )
        for name, field in properties["properties"].items()
    ]


def _plain(field: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return a parameter's schema without title, description and default; `X | None` becomes X."""
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    plain = _resolved(options[0], definitions) | {key: field[key] for key in ("enum", "examples") if key in field}
    if "items" in plain:
        plain["items"] = _plain(plain["items"], definitions)
    return {key: value for key, value in plain.items() if key not in ("title", "description", "default")}


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    return dict(definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema)
