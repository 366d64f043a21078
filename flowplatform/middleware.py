"""Middleware of every request: its id and its time, and the answer when the database is away."""

import logging
import re
from collections.abc import Callable
from time import perf_counter

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from ulid import ULID

from flowplatform import errors

GetResponse = Callable[[HttpRequest], HttpResponseBase]

logger = logging.getLogger(__name__)

_ULID = re.compile(r"[0-7][0-9A-HJKMNP-TV-Z]{25}", re.IGNORECASE)


class RequestIdMiddleware:
    """Gives every request a ULID, keeps a well-formed incoming one, and says how long the answer took.

    `Server-Timing: app;dur=` is the time in milliseconds from here to the finished answer, for browsers and benchmarks.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        begin = perf_counter()
        incoming = request.headers.get("X-Request-ID", "")
        request.request_id = incoming if _ULID.fullmatch(incoming) else str(ULID())  # type: ignore[attr-defined]
        response = self.get_response(request)
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        response["Server-Timing"] = f"app;dur={(perf_counter() - begin) * 1e3:.2f}"
        return response


class UnavailableMiddleware:
    """Turns a database that is away into 503 where no API view stands in between."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer 503 for an unavailable database; leave every other exception alone."""
        if isinstance(exception, DatabaseError | InterfaceError) and errors.is_unavailable(exception):
            logger.warning("database unavailable: %s", exception)
            return errors.unavailable(request)
        return None
