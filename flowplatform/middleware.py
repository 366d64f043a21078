"""Middleware: the id and the time of a request, the answer when the database is away, sessions for people only."""

import logging
import re
from collections.abc import Callable
from time import perf_counter
from typing import Any

from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.deprecation import MiddlewareMixin
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
        incoming = request.META.get("HTTP_X_REQUEST_ID", "")
        request.request_id = incoming if _ULID.fullmatch(incoming) else str(ULID())  # type: ignore[attr-defined]
        response = self.get_response(request)
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        response["Server-Timing"] = f"app;dur={(perf_counter() - begin) * 1e3:.2f}"
        return response


class _OfPeople(MiddlewareMixin):
    """Leaves API requests with a token alone: a token is nobody's session, whether it is valid or not."""

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request) if presents_token(request) else super().__call__(request)


class SessionMiddleware(_OfPeople, sessions.SessionMiddleware):
    """Django's, for people."""


class AuthenticationMiddleware(_OfPeople, auth.AuthenticationMiddleware):
    """Django's, for people."""


class MessageMiddleware(_OfPeople, messages.MessageMiddleware):
    """Django's, for people."""


def presents_token(request: HttpRequest) -> bool:
    """Say whether this is an API request that a credential in a header decides about."""
    has_header = "HTTP_AUTHORIZATION" in request.META or "HTTP_X_API_KEY" in request.META
    return has_header and request.path_info.startswith("/api/")


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
