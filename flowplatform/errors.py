"""Every error answer of the platform: the contract's envelope, its one exception (422), and who becomes which."""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import orjson
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from rest_framework import exceptions, status
from rest_framework.response import Response

from flowplatform import metrics
from flowplatform.postgresql.outcome import OutcomeUnknown

logger = logging.getLogger(__name__)

Details = Sequence[Any] | Mapping[str, Any] | None
RETRY_AFTER_SECONDS = 2


class BadRequest(exceptions.APIException):
    """400: the request cannot be understood, or names something the flow does not have."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "bad_request"

    def __init__(self, message: str, *, code: str = "bad_request", details: Details = None) -> None:
        super().__init__(message)
        self.code = code
        self.details = details


class Conflict(exceptions.APIException):
    """409: somebody else was faster, or the state of the thing forbids it."""

    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"

    def __init__(self, message: str, *, details: Details = None) -> None:
        super().__init__(message)
        self.details = details


class InFlight(Conflict):
    """409 with `Retry-After`: the first request of the same `Idempotency-Key` is still at work."""


class Unavailable(exceptions.APIException):
    """503: the database or a connection to it is not to be had; nothing was written."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "unavailable"
    default_detail = "The database is not available right now. Nothing was written; try again."


class InDoubt(Unavailable):
    """503: the database went away while it committed, and did not come back in time to be asked what became of it."""

    default_detail = (
        "The database went away before it confirmed. Whether this was written is not known: ask again with the same "
        "Idempotency-Key, or look."
    )
    details: ClassVar[Mapping[str, Any]] = {"written": "unknown"}


class Unprocessable(Exception):  # noqa: N818  (named like its fellows)
    """422: a body, path or query that does not fit the schema. `problems` hold `loc`, `msg` and `type` each."""

    def __init__(self, problems: list[dict[str, Any]]) -> None:
        super().__init__(problems)
        self.problems = problems


# What DRF raises, in the contract's words.
_CODES = {
    400: "bad_request",
    401: "unauthenticated",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    413: "payload_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
    500: "internal_error",
    503: "unavailable",
}
# One message for all four reasons of a 401, and one for every 404: an answer must not tell which it was.
_UNAUTHENTICATED = "Authentication is required: a valid service token or a signed-in session."
_NOT_FOUND = "Not found."
_TOO_MANY = "Too many requests. Try again in {} s."
_INTERNAL = "Something went wrong on our side. It has been logged."


def request_id_of(request: Any) -> str | None:
    """Return the id that `RequestIdMiddleware` gave to the request."""
    return getattr(request, "request_id", None)


def envelope(request: Any, *, message: str, code: str, details: Details = None) -> dict[str, Any]:
    """Return the body of an error answer as the contract defines it."""
    error = {"message": message, "code": code, "details": details}
    return {"error": error, "request_id": request_id_of(request)}


def exception_handler(exc: Exception, context: Mapping[str, Any]) -> Response | None:
    """Answer an exception raised in an API view; `None` leaves it to Django as a bug (500)."""
    request = context["request"]
    exc = _as_api_error(exc)
    if isinstance(exc, Unprocessable):
        return Response({"detail": exc.problems}, status=422)
    if not isinstance(exc, exceptions.APIException):
        return None
    code = exc.code if isinstance(exc, BadRequest) else _CODES.get(exc.status_code, "bad_request")
    body = envelope(request, message=_message(exc), code=code, details=getattr(exc, "details", None))
    return Response(body, status=exc.status_code, headers=_headers(exc))


def _as_api_error(exc: Exception) -> Exception:
    """Translate Django's and the database's exceptions into ours."""
    match exc:
        case Http404():
            return exceptions.NotFound()
        case PermissionDenied():
            return exceptions.PermissionDenied()
        case DatabaseError() | InterfaceError():
            return _database_error(exc)
    return exc


def _database_error(exc: DatabaseError | InterfaceError) -> Exception:
    """Map by SQLSTATE: away is 503, bad data is 422, a refused duplicate is 409, the rest is a bug."""
    if is_unavailable(exc):
        note_unavailable(exc)
        return InDoubt() if isinstance(exc, OutcomeUnknown) else Unavailable()
    if isinstance(exc, DataError) or sqlstate_of(exc).startswith("54"):
        logger.error("a value passed validation and was refused by the database", exc_info=exc)
        return Unprocessable([{"loc": ["body"], "msg": "The database refused a value.", "type": "value_error"}])
    if isinstance(exc, IntegrityError):
        logger.error("a constraint refused a write", exc_info=exc)
        return Conflict("The change conflicts with what is stored.")
    return exc


def sqlstate_of(exc: BaseException) -> str:
    """Return the five-character SQLSTATE behind a Django database error, or "" where there is none."""
    return getattr(exc.__cause__, "sqlstate", None) or ""


# Locked, out of time, and conflicts that outlived every repetition.
_AWAY = ("55P03", "57014", "40001", "40P01")


def is_unavailable(exc: BaseException) -> bool:
    """Say whether the database is away, full or out of time: trying again later may help."""
    state = sqlstate_of(exc)
    return is_gone(exc) or state[:2] == "53" or state in _AWAY


def note_unavailable(exc: BaseException) -> None:
    """Count and log that a request is answered 503 for want of the database."""
    metrics.database_unavailable.labels(sqlstate_of(exc) or "none").inc()
    logger.warning("database unavailable: %s", exc)


def is_gone(exc: BaseException) -> bool:
    """Say whether there is no server to talk to: what is tried next would fail too."""
    state = sqlstate_of(exc)
    no_connection = isinstance(exc, OperationalError) and not state
    return isinstance(exc, InterfaceError) or no_connection or state[:2] == "08" or state.startswith("57P")


def _message(exc: exceptions.APIException) -> str:
    match exc:
        case exceptions.NotAuthenticated() | exceptions.AuthenticationFailed():
            return _UNAUTHENTICATED
        case exceptions.NotFound():
            return _NOT_FOUND
        case exceptions.Throttled():
            return _TOO_MANY.format(_wait(exc))
    return str(exc.detail)


def _headers(exc: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if exc.status_code == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if exc.status_code == 503:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if isinstance(exc, InFlight):
        headers["Retry-After"] = "1"  # no other conflict passes by itself, which is how clients know this one
    if isinstance(exc, exceptions.Throttled):
        headers["Retry-After"] = str(_wait(exc))
    return headers


def _wait(exc: exceptions.Throttled) -> int:
    return max(1, math.ceil(exc.wait or 1))  # type: ignore[attr-defined]  # the stubs do not know it


# --- Django's own error answers: JSON below /api/, a page elsewhere ------------------------------------------------


def _answer(
    request: HttpRequest,
    code: int,
    message: str,
    headers: Mapping[str, str] | None = None,
    *,
    page: int | None = None,
    **shown: Any,
) -> HttpResponse:
    """Answer outside DRF: the envelope for the API, the error page for people (that of the code without `page`)."""
    if request.path.startswith("/api/"):
        body = orjson.dumps(envelope(request, message=message, code=_CODES[code]))
        return HttpResponse(body, status=code, content_type="application/json", headers=headers)
    response = render(None, f"{page or code}.html", {"request_id": request_id_of(request), **shown}, status=code)
    for name, value in (headers or {}).items():
        response[name] = value
    return response


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler400: a suspicious request, such as a Host header that is not ours."""
    return _answer(request, 400, "Bad request.")


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler403."""
    return _answer(request, 403, "You may not do this.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """handler404: also for API paths that no route knows."""
    return _answer(request, 404, _NOT_FOUND)


def refused(request: HttpRequest, status: int, message: str) -> HttpResponse:
    """The answer to a request whose body is not read; people get the page for requests that make no sense."""
    return _answer(request, status, message, page=400)


def server_error(request: HttpRequest) -> HttpResponse:
    """handler500: a bug; nothing internal in the text."""
    return _answer(request, 500, _INTERNAL)


def unavailable(request: HttpRequest) -> HttpResponse:
    """The 503 of everything that is not an API view, such as a page or a session read."""
    return _answer(request, 503, Unavailable.default_detail, {"Retry-After": str(RETRY_AFTER_SECONDS)})


def too_many_requests(request: HttpRequest, seconds: int) -> HttpResponse:
    """The 429 of everything that is not an API view: try again after so many seconds."""
    return _answer(request, 429, _TOO_MANY.format(seconds), {"Retry-After": str(seconds)}, seconds=seconds)
