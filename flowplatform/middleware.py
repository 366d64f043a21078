"""Middleware: a request's id, time and figures, a page's security policy, the answer without a database, sessions.

And the audit record of what was refused, whoever refused it, and how much somebody may ask for.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from http import HTTPStatus
from time import perf_counter
from typing import Any

from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.contrib.auth import get_user
from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.core.exceptions import DisallowedHost
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.http.request import split_domain_port
from django.urls import Resolver404, resolve
from django.utils.deprecation import MiddlewareMixin
from prometheus_client import Counter, Histogram
from ulid import ULID

from flowplatform import current_request, errors, metrics, tenancy
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.authentication import presented_token
from flowplatform.accounts.refusals import (
    Refused,
    author_of,
    note_refused_access,
    note_unknown_id,
    note_wrong_credential,
)
from flowplatform.accounts.throttles import Attempt
from flowplatform.audit.authors import origin_of
from flowplatform.audit.writing import unless_away
from flowplatform.ids import IS_ULID
from flowplatform.throttling.addresses import address_of
from flowplatform.throttling.allowances import Spent, spend
from flowplatform.throttling.requests import add_headers, charge, is_charged, is_refused, keep

GetResponse = Callable[[HttpRequest], HttpResponseBase]

logger = logging.getLogger("flowplatform.requests")

MOST_OF_PATH = 200  # characters of it in a line of the log
_OPERATIONS = ("/health/", "/metrics")


class RequestIdMiddleware:
    """Gives every request a ULID, keeps a well-formed incoming one, and says and counts how long the answer took.

    `Server-Timing: app;dur=` is the time in milliseconds from here to the finished answer, for browsers and benchmarks.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        begin = perf_counter()
        incoming = request.META.get("HTTP_X_REQUEST_ID", "")
        request.request_id = incoming if IS_ULID.fullmatch(incoming) else str(ULID())  # type: ignore[attr-defined]
        current_request.begin(request)
        response = self.get_response(request)
        seconds = perf_counter() - begin
        response["X-Request-ID"] = request.request_id  # type: ignore[attr-defined]
        response["Server-Timing"] = f"app;dur={seconds * 1e3:.2f}"
        _count(request, response, seconds)
        _log(request, response, seconds)
        return response


def _count(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    requests, durations = _figures(
        current_request.method_of(request), current_request.route_of(request), response.status_code
    )
    requests.inc()
    durations.observe(seconds)


def _log(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    """Say that the request was answered: its one line, where that is asked for (LOG_REQUESTS)."""
    status = response.status_code
    level = logging.INFO if status < 500 else logging.WARNING if status == 503 else logging.ERROR
    if status < 500 and request.path_info.startswith(_OPERATIONS):
        level = logging.DEBUG  # every few seconds
    if not logger.isEnabledFor(level):
        return
    said = {
        "method": current_request.method_of(request),
        "path": request.path_info[:MOST_OF_PATH],  # without the query, in which people have put secrets
        "status": status,
        "milliseconds": round(seconds * 1e3, 2),
        "address": request.META.get("REMOTE_ADDR"),
    }
    logger.log(level, "request", extra=said)


@lru_cache(1_000)  # finding a figure by its labels takes as long as counting
def _figures(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return metrics.http_requests.labels(method, route, status), metrics.http_seconds.labels(method, route)


class TenancyMiddleware:
    """Begins every request with no organization's rows being shown, and leaves its thread so."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with tenancy.showing(tenancy.NOBODY):
            return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> None:
        """Show staff everybody's rows in the admin; everywhere else who authenticates the request says whose."""
        match, user = request.resolver_match, getattr(request, "user", None)
        if match and match.app_name == "admin" and user and user.is_active and user.is_staff:
            tenancy.show(tenancy.EVERYBODY)


class AuditMiddleware:
    """Records what was refused, when the answer is there and every transaction over."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code == 401 and presents_token(request):
            raw = presented_token(request.META.get("HTTP_AUTHORIZATION"), request.META.get("HTTP_X_API_KEY")) or ""
            note_wrong_credential(origin_of(request), raw, request.path)
        elif response.status_code in (403, 404):
            self._note_refusal(request, response)
        return response

    def _note_refusal(self, request: HttpRequest, response: HttpResponseBase) -> None:
        user = unless_away(lambda: _asker(request))
        actor, author = user if isinstance(user, Actor) else None, author_of(user, origin_of(request))
        route = request.resolver_match.route if request.resolver_match else "no route"
        refused = Refused(str(request.method), request.path, route, _message(response))
        if response.status_code == 403:
            note_refused_access(author, actor, refused)
        elif author.id:
            note_unknown_id(author, actor, refused)


def _asker(request: HttpRequest) -> Any:
    """Return who asked: the actor that an API view found, or the person of the session if anything looked for one."""
    user = vars(request).get("user")
    if type(user) is Actor:  # `isinstance` would load the session of a request that nobody wanted it for
        return user
    session = getattr(request, "session", None)
    return get_user(request) if session is not None and session.accessed else None


def _message(response: HttpResponseBase) -> str:
    """Return what an answer of the API says."""
    data = getattr(response, "data", None)
    return str(data["error"]["message"]) if isinstance(data, dict) and "error" in data else ""


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


class OperationsMiddleware:
    """Answers probes and scrapers here: they come by an address, not by a name of ours, and belong to nobody.

    What comes after would refuse the name, redirect to TLS, or count them against a limit.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(_OPERATIONS):
            return self.get_response(request)
        try:
            match = resolve(request.path_info)
        except Resolver404:
            return self.get_response(request)
        request.resolver_match = match
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
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
            errors.note_unavailable(exception)
            return errors.unavailable(request)
        return None
