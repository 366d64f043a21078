"""Error answers: their two forms, one shared answer per status, and those that a view describes itself."""

from dataclasses import dataclass
from typing import Any

from drf_spectacular.plumbing import build_examples_list
from drf_spectacular.utils import OpenApiExample, OpenApiResponse

_REQUEST_ID = "01KAPXB8Q4T6WJ0M3Z9F5HD7RC"

FORMS: dict[str, dict[str, Any]] = {
    "Error": {
        "type": "object",
        "description": "Every error but 422. `request_id` is that of the header `X-Request-ID`.",
        "required": ["error", "request_id"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "code", "details"],
                "properties": {
                    "message": {"type": "string", "description": "For people; it may be worded differently one day."},
                    "code": {
                        "type": "string",
                        "description": "For programs.",
                        "enum": [
                            "bad_request",
                            "invalid_definition",
                            "unauthenticated",
                            "forbidden",
                            "not_found",
                            "method_not_allowed",
                            "conflict",
                            "payload_too_large",
                            "unsupported_media_type",
                            "rate_limited",
                            "internal_error",
                            "unavailable",
                        ],
                    },
                    "details": {"oneOf": [{"type": "array"}, {"type": "object"}, {"type": "null"}]},
                },
            },
            "request_id": {"type": ["string", "null"]},
        },
    },
    "Unprocessable": {
        "type": "object",
        "description": "What does not fit the schema, and where.",
        "required": ["detail"],
        "properties": {
            "detail": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["loc", "msg", "type"],
                    "properties": {
                        "loc": {
                            "type": "array",
                            "description": "Where: body, path, query or header, then names and indexes.",
                            "items": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
                        },
                        "msg": {"type": "string"},
                        "type": {"type": "string"},
                    },
                },
            }
        },
    },
}


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason why a request is refused, as an example: its name in the document, and what the answer says."""

    name: str
    message: str
    details: list[Any] | dict[str, Any] | None = None
    code: str = "bad_request"

    def example(self) -> OpenApiExample:
        """Return the answer's body as an example."""
        error = {"message": self.message, "code": self.code, "details": self.details}
        return OpenApiExample(self.name, {"error": error, "request_id": _REQUEST_ID})


def refused(description: str, *reasons: Reason) -> OpenApiResponse:
    """Return an error answer for `responses` of `extend_schema`, with an example for each reason."""
    return OpenApiResponse(_reference("Error"), description, [reason.example() for reason in reasons])


NOT_JSON = Reason("not JSON", "The body is not JSON: unexpected character: line 1 column 2 (char 1)")
NO_BODY = Reason("empty", "The body is empty; JSON is expected.")
WRONG_CURSOR = Reason("wrong cursor", "The cursor is not valid for this list; begin without one.")
NO_ORGANIZATION = Reason(
    "no organization",
    "Name the organization in the header X-Organization (its slug): there is not exactly one.",
)
KEY_IN_FLIGHT = Reason(
    "key in flight", "A request with this Idempotency-Key is running; ask again in a moment.", code="conflict"
)
_REASONS = {
    "401": [
        Reason(
            "unauthenticated",
            "Authentication is required: a valid service token or a signed-in session.",
            code="unauthenticated",
        )
    ],
    "403": [
        Reason("no right", "A service token with the scope status:write is required.", code="forbidden"),
        Reason("no CSRF token", "CSRF Failed: CSRF token missing.", code="forbidden"),
    ],
    "404": [Reason("not found", "Not found.", code="not_found")],
    "409": [KEY_IN_FLIGHT],
    "413": [Reason("too large", "The body exceeds 1048576 bytes.", code="payload_too_large")],
    "415": [
        Reason(
            "not JSON by its type",
            'Unsupported media type "text/plain" in request.',
            code="unsupported_media_type",
        )
    ],
    "429": [Reason("too many", "Too many requests. Try again in 7 s.", code="rate_limited")],
    "503": [
        Reason(
            "unavailable",
            "The database is not available right now. Nothing was written; try again.",
            code="unavailable",
        ),
        Reason(
            "gone while it committed",
            "The database went away before it confirmed. Whether this was written is not known: ask again with the "
            "same Idempotency-Key, or look.",
            code="unavailable",
            details={"written": "unknown"},
        ),
    ],
}
_DESCRIPTIONS = {
    "401": "No valid credential: it is missing, malformed, expired or revoked.",
    "403": "A valid credential that may not do this, or a session without its CSRF token.",
    "404": "No such row for this organization, or it is deleted.",
    "409": "The first request with this key is still running; this 409 alone has `Retry-After`.",
    "413": "The body is over 1 MiB.",
    "415": "The body is not `application/json` by its type.",
    "429": "More than the token, its organization or its address may ask for. Nothing was done.",
    "503": (
        "The database is away, or all its connections are taken. Nothing was written, unless `details` say that this "
        "is not known."
    ),
}
NAMES = {
    "401": "Unauthenticated",
    "403": "Forbidden",
    "404": "NotFound",
    "409": "KeyInFlight",
    "413": "PayloadTooLarge",
    "415": "UnsupportedMediaType",
    "422": "Unprocessable",
    "429": "TooManyRequests",
    "503": "Unavailable",
}
_UNPROCESSABLE = {
    "a body": {
        "loc": ["body", "statuses", 3, "task_name"],
        "msg": "String should have at least 1 character",
        "type": "string_too_short",
    },
    "a path": {
        "loc": ["path", "flow_execution_id"],
        "msg": "Input should be a valid UUID, invalid length: expected length 32 for simple format, found 3",
        "type": "uuid_parsing",
    },
    "a query": {
        "loc": ["query", "page_size"],
        "msg": "Input should be less than or equal to 1000",
        "type": "less_than_equal",
    },
    "a key used twice": {
        "loc": ["header", "Idempotency-Key"],
        "msg": "The key was used with another body",
        "type": "idempotency_key_reused",
    },
}


def shared_refusals() -> dict[str, dict[str, Any]]:
    """Return the error answers that mean the same at every operation, by their names in the components."""
    shared = {NAMES[status]: answer(_DESCRIPTIONS[status], reasons) for status, reasons in _REASONS.items()}
    examples = [OpenApiExample(name, {"detail": [problem]}) for name, problem in _UNPROCESSABLE.items()]
    shared[NAMES["422"]] = _answer("A body, path, query or header does not fit the schema.", "Unprocessable", examples)
    return shared


def answer(description: str, reasons: list[Reason]) -> dict[str, Any]:
    """Return an error answer in the envelope, with an example for each reason."""
    return _answer(description, "Error", [reason.example() for reason in reasons])


def _answer(description: str, form: str, examples: list[OpenApiExample]) -> dict[str, Any]:
    content = {"schema": _reference(form), "examples": build_examples_list(examples)}
    return {"description": description, "content": {"application/json": content}}


def _reference(form: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{form}"}
