"""OpenAPI from our schemas: query parameters from pydantic models, and the errors that every operation shares."""

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter
from pydantic import BaseModel


class ServiceTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a program says who it is."""

    target_class = "flowplatform.accounts.authentication.ServiceTokenAuthentication"
    name = ["bearer", "apiKey"]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        """Both headers carry the same service token."""
        return [
            {"type": "http", "scheme": "bearer", "description": "A service token."},
            {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A service token."},
        ]


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a browser says who it is."""

    target_class = "flowplatform.accounts.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """The cookie; writes need Django's CSRF token in `X-CSRFToken` as well."""
        return {"type": "apiKey", "in": "cookie", "name": settings.SESSION_COOKIE_NAME}


IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": 255},
    OpenApiParameter.HEADER,
    description="The same key with the same body replays the first answer and writes nothing; kept 24 hours.",
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
    plain = _resolved(options[0], definitions)
    if "items" in plain:
        plain["items"] = _plain(plain["items"], definitions)
    return {key: value for key, value in plain.items() if key not in ("title", "description", "default")}


def _resolved(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    return dict(definitions[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema)


_ERROR = {
    "type": "object",
    "required": ["error", "request_id"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "code", "details"],
            "properties": {
                "message": {"type": "string"},
                "code": {"type": "string"},
                "details": {"oneOf": [{"type": "array"}, {"type": "object"}, {"type": "null"}]},
            },
        },
        "request_id": {"type": ["string", "null"]},
    },
}
_UNPROCESSABLE = {
    "type": "object",
    "required": ["detail"],
    "properties": {
        "detail": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["loc", "msg", "type"],
                "properties": {
                    "loc": {"type": "array", "items": {"oneOf": [{"type": "string"}, {"type": "integer"}]}},
                    "msg": {"type": "string"},
                    "type": {"type": "string"},
                },
            },
        }
    },
}
_EVERYWHERE = {"401": "No valid credential", "403": "A valid credential that may not do this", "503": "Database away"}
_WITH_PATH = {"404": "No such row for this organization"}
_WITH_BODY = {"400": "Not JSON, or a name that does not exist", "413": "Body over 1 MiB", "415": "Not JSON by its type"}


def add_errors(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """drf-spectacular hook: document the contract's error answers at every operation of the API."""
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas["Error"], schemas["Unprocessable"] = _ERROR, _UNPROCESSABLE
    for path, operations in result["paths"].items():
        for operation in operations.values():
            _document(operation, has_path="{" in path)
    return result


def _document(operation: dict[str, Any], *, has_path: bool) -> None:
    responses = operation["responses"]
    errors = _EVERYWHERE | (_WITH_PATH if has_path else {}) | (_WITH_BODY if "requestBody" in operation else {})
    for code, description in errors.items():
        responses.setdefault(code, _answer(description, "Error"))
    if has_path or operation.get("parameters") or "requestBody" in operation:
        responses.setdefault("422", _answer("Does not fit the schema", "Unprocessable"))


def _answer(description: str, schema: str) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"}
    return {"description": description, "content": {"application/json": {"schema": reference}}}
