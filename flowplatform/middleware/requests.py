"""A request's id, its time and its line in the log; probes and scrapers, answered before anything else is asked."""

import logging
from functools import lru_cache
from time import perf_counter

from django.http import HttpRequest, HttpResponseBase
from django.urls import Resolver404, resolve
from prometheus_client import Counter, Histogram
from ulid import ULID

from flowplatform import current_request, metrics
from flowplatform.ids import IS_ULID
from flowplatform.middleware.types import GetResponse

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
