"""What a request may bring along: a body of at most 1 MiB, within ten seconds, that is not compressed.

Servers read a body before a thread is taken for the request, and no further than that: `flowplatform/rsgi.py` for the
web role, `flowplatform/live_http.py` for the live one. Why they gave up is a status in the WSGI environment; the
middleware answers it, so that the answer has an id and the form of every other.
"""

from typing import TYPE_CHECKING, Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from flowplatform import errors

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BODY_BYTES = 1024 * 1024
MAX_CHUNKS = 16_384  # of a body that comes in chunks: the smallest cost as much as the largest
# For the whole body. A proxy in front collects bodies first and passes them on at once.
BODY_SECONDS = 10
# A client that is still sending what was refused is cut off before it has read why, unless that is passed over.
LINGER_SECONDS = 2
LINGER_BYTES = 4 * MAX_BODY_BYTES
READER_SECONDS = 20  # for a client to read on, of an answer that is sent in parts

REFUSED = "flowplatform.refused"  # in the environment: the status of a request whose body was not read to its end

_MESSAGES = {
    400: "The body cannot be read: it ends before its time, or is coded in an unknown way.",
    408: f"The body took longer than {BODY_SECONDS} s.",
    413: f"The body exceeds {MAX_BODY_BYTES} bytes.",
    415: "Bodies may not be compressed: leave Content-Encoding out.",
}


class Unreadable(Exception):  # noqa: N818  (a status, rather)
    """A body is refused with `status`."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def is_too_large(length: str) -> bool:
    """Say whether a Content-Length is more than is read."""
    return length.isdecimal() and int(length) > MAX_BODY_BYTES


class BodyMiddleware:
    """Refuses what may not be read, whoever sends it and wherever to: nobody is looked up for that."""

    def __init__(self, get_response: "Callable[[HttpRequest], HttpResponseBase]") -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        status = _refusal(request.META)
        return self.get_response(request) if status is None else _refused(request, status)


def _refusal(environ: dict[str, Any]) -> int | None:
    if status := environ.get(REFUSED):
        return int(status)
    if is_too_large(environ.get("CONTENT_LENGTH") or ""):
        return 413
    return 415 if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity" else None


def _refused(request: HttpRequest, status: int) -> HttpResponse:
    response = errors.refused(request, status, _MESSAGES[status])
    if REFUSED in request.META:
        # What is left of the body is in the way of another request.
        response["Connection"] = "close"
    return response
