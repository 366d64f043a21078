"""Middleware: a request's id and time, a page's security policy, the answer without a database, sessions for people,
and how much somebody may ask for.
"""

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from time import perf_counter
from typing import Any

from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.core.exceptions import DisallowedHost
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.http.request import split_domain_port
from django.utils.deprecation import MiddlewareMixin
from ulid import ULID

from flowplatform import errors
from flowplatform.accounts.authentication import presented_token
from flowplatform.accounts.throttles import Attempt
from flowplatform.throttling.addresses import address_of
from flowplatform.throttling.allowances import Spent, spend
from flowplatform.throttling.requests import add_headers, charge, is_charged, is_refused, keep

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


class ContentSecurityPolicyMiddleware(CSPMiddleware):
    """django-csp's, for HTML only: any other answer costs a look at its type.

    It adds the exceptions of the settings for paths, and the sockets where they have a port of their own.
    """

    def __call__(self, request: HttpRequest) -> Any:
        response: Any = self.get_response(request)
        if response.get("Content-Type", "").startswith("text/html"):
            return self.process_response(request, response)
        return response

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        additions = {name: list(sources) for name, sources in (parts.update or {}).items()}
        for directive, source in (*_exceptions(request), *_sockets(request)):
            additions.setdefault(directive, []).append(source)
        parts.update = additions
        return parts


def _exceptions(request: HttpRequest) -> Iterator[tuple[str, str]]:
    """Yield the directives, each with a source, that the settings add for this path."""
    for prefix, directives in settings.CONTENT_SECURITY_POLICY_EXCEPTIONS.items():
        if request.path_info.startswith(prefix):
            yield from ((directive, source) for directive, sources in directives.items() for source in sources)


def _sockets(request: HttpRequest) -> Iterator[tuple[str, str]]:
    """Yield where this page's sockets are, if that is another port: 'self' is the page's own host *and* port."""
    if not settings.SOCKETS_PORT:
        return
    try:
        host, _ = split_domain_port(request.get_host())
    except DisallowedHost:  # its answer is an error page, which needs no sockets
        return
    if host.startswith("["):  # a policy cannot name an IPv6 address
        host = "*"
    # Both, because a proxy in front may speak TLS without our knowing.
    yield from (("connect-src", f"{scheme}://{host}:{settings.SOCKETS_PORT}") for scheme in ("ws", "wss"))


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


class RateLimitMiddleware:
    """Charges whoever is not an actor with a token (`ActorThrottle` does that), and says what is left.

    People are charged by name and address, whoever has no credential by address. What a request with a token costs
    shows in its answer: if nobody was charged the token was not valid, or there is no such route.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._of_token(request) if presents_token(request) else self._of_others(request)
        if request.path_info.startswith("/api/"):
            add_headers(request, response)
        return response

    def _of_token(self, request: HttpRequest) -> HttpResponseBase:
        token = presented_token(request.META.get("HTTP_AUTHORIZATION"), request.META.get("HTTP_X_API_KEY"))
        attempt = Attempt(address_of(request.META), token or "")
        if refusal := attempt.refusal():
            keep(request, refusal)
            return errors.too_many_requests(request, refusal.reset)
        response = self.get_response(request)
        if not is_charged(request) and response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            is_failure = response.status_code == HTTPStatus.UNAUTHORIZED
            spent = attempt.failed() if is_failure else (spend("anonymous", attempt.address),)
            if refusal := _refusal(keep(request, each) for each in spent):
                return errors.too_many_requests(request, refusal.reset)
        return response

    def _of_others(self, request: HttpRequest) -> HttpResponseBase:
        address = address_of(request.META)
        try:
            person = request.user if settings.SESSION_COOKIE_NAME in request.COOKIES else None
            accounts = [("anonymous", address)]
            if person is not None and person.is_authenticated:
                accounts = [("person", person.pk.hex), ("address", address)]
        except (DatabaseError, InterfaceError) as exception:
            if not errors.is_unavailable(exception):
                raise
            logger.warning("database unavailable: %s", exception)
            return errors.unavailable(request)
        if refusal := _refusal(charge(request, name, key) for name, key in accounts):
            return errors.too_many_requests(request, refusal.reset)
        return self.get_response(request)


def _refusal(spent: Iterable[Spent | None]) -> Spent | None:
    """Return the first that has nothing left; what comes after it is not charged."""
    return next(filter(is_refused, spent), None)


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
