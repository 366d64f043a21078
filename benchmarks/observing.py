"""What it costs a request to be counted and logged: `python -m benchmarks.observing`, a few seconds.

Microseconds of one thread for each request, the best of several rounds: a request that does nothing goes through each
middleware, and what it takes without one is subtracted. django-prometheus is measured where it is installed, which
nothing here needs: `pip install --target DIR --no-deps django-prometheus`, and `PYTHONPATH=DIR`.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

ROUNDS, REQUESTS = 7, 3_000
ROUTE = "/api/flow-executions/01a203fb-0264-73c7-a1a4-1955c9c42008/task-status"


def best(call: Callable[[], object]) -> float:
    """Return the microseconds that a call takes."""

    def measured() -> float:
        begin = perf_counter()
        for _ in range(REQUESTS):
            call()
        return (perf_counter() - begin) / REQUESTS * 1e6

    return min(measured() for _ in range(ROUNDS))


def rows() -> Iterator[tuple[str, float]]:
    """Yield what was measured, by name."""
    from django.conf import settings
    from django.http import HttpRequest, HttpResponse
    from django.test import RequestFactory
    from django.urls import resolve
    from django_structlog.middlewares import RequestMiddleware

    from flowplatform import metrics
    from flowplatform.middleware import requests

    def get_response(request: HttpRequest) -> HttpResponse:
        return HttpResponse(b"")

    request = RequestFactory().post(ROUTE)
    request.resolver_match = resolve(ROUTE)
    request.request_id = "01KAPXB8Q4T6WJ0M3Z9F5HD7RC"  # type: ignore[attr-defined]
    response = get_response(request)
    batch = metrics.batch_items.labels("status")
    yield "counting a request (ours)", best(lambda: requests._count(request, response, 0.001))
    yield "counting a batch (ours)", best(lambda: batch.observe(10))

    # Where lines go costs the same for all: nowhere.
    with Path(os.devnull).open("w") as nowhere:
        (handler,) = logging.getLogger().handlers
        handler.setStream(nowhere)  # type: ignore[attr-defined]
        logging.getLogger("flowplatform.requests").setLevel(logging.CRITICAL)
        yield "a request without a line (ours)", best(lambda: requests._log(request, response, 0.001))
        logging.getLogger("flowplatform.requests").setLevel(logging.INFO)
        yield "a request with its line (ours)", best(lambda: requests._log(request, response, 0.001))
        alone = best(lambda: get_response(request))
        theirs = RequestMiddleware(get_response)
        yield "django-structlog's middleware, two lines", best(lambda: theirs(request)) - alone
        settings.DJANGO_STRUCTLOG_STATUS_START_LOG_LEVEL = logging.DEBUG
        yield "the same, with the finishing line only", best(lambda: theirs(request)) - alone
        settings.DJANGO_STRUCTLOG_STATUS_2XX_LOG_LEVEL = logging.DEBUG
        yield "the same, binding the context only", best(lambda: theirs(request)) - alone

    if find_spec("django_prometheus"):
        from django_prometheus import middleware as prometheus  # type: ignore[import-not-found]

        both = prometheus.PrometheusBeforeMiddleware(prometheus.PrometheusAfterMiddleware(get_response))
        yield "django-prometheus' two middlewares", best(lambda: both(request)) - alone


def main() -> int:
    """Print the table."""
    with TemporaryDirectory() as folder:
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": "flowplatform.settings",
            "FLOWPLATFORM_DATA_DIR": folder,
            "FLOWPLATFORM_ROLE": "web",
            "LOG_FORMAT": "json",
            "PROMETHEUS_MULTIPROC_DIR": f"{folder}/figures",
        }
        import django

        django.setup()
        for name, microseconds in rows():
            print(f"{name:45} {microseconds:7.1f} µs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
