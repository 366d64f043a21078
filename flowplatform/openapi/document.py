"""The last step of the OpenAPI document: what holds for every operation, and what shows in an operation itself."""

from collections.abc import Iterator
from typing import Any

from flowplatform.openapi import refusals
from flowplatform.openapi.examples import example_of

_HEADERS = {
    "X-Request-ID": {
        "description": "The id of the request, a ULID: that of the request's own header `X-Request-ID` if it is one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$"},
        "example": "01KAPXB8Q4T6WJ0M3Z9F5HD7RC",
    },
    "Server-Timing": {
        "description": "The time in milliseconds that the application took.",
        "required": True,
        "schema": {"type": "string"},
        "example": "app;dur=3.42",
    },
    "Link": {
        "description": "The address of the next page, where there is one.",
        "schema": {"type": "string"},
        "example": '<http://127.0.0.1:8000/api/flows?page=2>; rel="next"',
    },
    "Retry-After": {
        "description": "Seconds to wait before the same request is sent again.",
        "required": True,
        "schema": {"type": "integer"},
        "example": 2,
    },
    "RateLimit-Limit": {
        "description": "How many requests a window of time allows: of the limits that the request counted for, that of "
        "the one that is nearest to its end. The four fields are those of draft-ietf-httpapi-ratelimit-headers-06; "
        "they are absent where no limit is set.",
        "schema": {"type": "integer"},
        "example": 30_000,
    },
    "RateLimit-Remaining": {
        "description": "How many are left of it, about.",
        "schema": {"type": "integer"},
        "example": 29_412,
    },
    "RateLimit-Reset": {
        "description": "Seconds until the window ends and the next one begins.",
        "schema": {"type": "integer"},
        "example": 7,
    },
    "RateLimit-Policy": {
        "description": "The limit, and the length of its window in seconds.",
        "schema": {"type": "string"},
        "example": "30000;w=10",
    },
    "WWW-Authenticate": {
        "description": "How to say who you are.",
        "required": True,
        "schema": {"type": "string"},
        "example": "Bearer",
    },
}
_HEADERS_OF = {"401": ["WWW-Authenticate"], "429": ["Retry-After"], "503": ["Retry-After"]}
_LIMITS = ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy"]
_ALWAYS = ["X-Request-ID", "Server-Timing"]


def complete(result: dict[str, Any], generator: Any, request: Any, public: bool) -> dict[str, Any]:
    """drf-spectacular hook: document errors, headers, descriptions and examples at every operation."""
    components = result.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas.update(refusals.FORMS)
    components["headers"] = _HEADERS
    components["responses"] = refusals.shared_refusals()
    for status, name in refusals.NAMES.items():
        _add_headers(components["responses"][name], status, is_paged=False)
    for operations in result["paths"].values():
        for operation in operations.values():
            _complete(operation, schemas)
    return result


def _complete(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    parameters = operation.setdefault("parameters", [])
    _add_refusals(operation, schemas)
    for parameter in parameters:
        _describe_parameter(parameter, schemas)
    if "requestBody" in operation:
        _add_examples(operation["requestBody"], schemas)
    is_paged = any(parameter["name"] == "page" for parameter in parameters)
    for status, answer in operation["responses"].items():
        if "$ref" not in answer:
            _describe_answer(answer, schemas)
            _add_examples(answer, schemas)
            _add_headers(answer, status, is_paged=is_paged and status == "200")
    operation["responses"] = dict(sorted(operation["responses"].items()))


# --- Errors -------------------------------------------------------------------------------------------------------


def _add_refusals(operation: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Add the errors that an operation's form makes possible, beside those that its view describes."""
    parameters = {parameter["name"] for parameter in operation["parameters"]}
    body = _schema_of(operation.get("requestBody", {}))
    named = parameters | set(_properties(body, schemas))
    for status in _possible(parameters, named, has_body=body is not None):
        reference = {"$ref": f"#/components/responses/{refusals.NAMES[status]}"}
        operation["responses"].setdefault(status, reference)
    _add_bad_request(operation, _reasons(parameters, has_body=body is not None))


def _possible(parameters: set[str], named: set[str], *, has_body: bool) -> Iterator[str]:
    """Yield the statuses that an operation may refuse with; `named` are its parameters and its body's properties."""
    yield from ("401", "403", "429", "503")
    if has_body:
        yield from ("413", "415")
    if parameters or has_body:
        yield "422"
    if "X-Organization" in parameters or any(name.endswith("_id") for name in named):
        yield "404"
    if "Idempotency-Key" in parameters:
        yield "409"


def _reasons(parameters: set[str], *, has_body: bool) -> Iterator[refusals.Reason]:
    if has_body:
        yield from (refusals.NOT_JSON, refusals.NO_BODY)
    if "cursor" in parameters:
        yield refusals.WRONG_CURSOR
    if "X-Organization" in parameters:
        yield refusals.NO_ORGANIZATION


def _add_bad_request(operation: dict[str, Any], reasons: Iterator[refusals.Reason]) -> None:
    """Document 400 if there are reasons for it, after those that the view describes."""
    general = refusals.answer("The request cannot be understood.", list(reasons))
    shown = general["content"]["application/json"]["examples"]
    if shown:
        answer = operation["responses"].setdefault("400", general)
        answer["content"]["application/json"].setdefault("examples", {}).update(shown)


def _properties(schema: dict[str, Any] | None, schemas: dict[str, Any]) -> Iterator[str]:
    """Yield the names of a body's properties, also of the objects in it."""
    if schema is None:
        return
    if "$ref" in schema:
        schema = schemas[schema["$ref"].rpartition("/")[2]]
    for name, inner in schema.get("properties", {}).items():
        yield name
        yield from _properties(inner, schemas)
    yield from _properties(schema.get("items"), schemas)


def _schema_of(holder: dict[str, Any]) -> dict[str, Any] | None:
    """Return the schema of a request body or an answer; `None` where it has no content."""
    for content in holder.get("content", {}).values():
        schema: dict[str, Any] = content["schema"]
        return schema
    return None


# --- Descriptions, headers and examples ---------------------------------------------------------------------------


def _describe_parameter(parameter: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Add an example, below the schema: Swagger UI would fill its form with one that stands beside it."""
    schema = parameter["schema"]
    schema["examples"] = [example_of(schema, schemas, parameter["name"])]
    if parameter["in"] == "path":
        parameter["description"] = f"The id of the {parameter['name'].removesuffix('_id').replace('_', ' ')}."


def _describe_answer(answer: dict[str, Any], schemas: dict[str, Any]) -> None:
    schema = _schema_of(answer)
    if schema is None:
        answer["description"] = "Done; the answer has no body."
    elif not answer["description"]:
        answer["description"] = schemas[schema["$ref"].rpartition("/")[2]]["description"]


def _add_headers(answer: dict[str, Any], status: str, *, is_paged: bool) -> None:
    names = [*_ALWAYS, *_HEADERS_OF.get(status, ()), *(["Link"] if is_paged else [])]
    names += _LIMITS if status != "503" else []
    answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _add_examples(holder: dict[str, Any], schemas: dict[str, Any]) -> None:
    for content in holder.get("content", {}).values():
        if "examples" not in content:
            content["example"] = example_of(content["schema"], schemas, content["schema"].get("$ref", ""))
