"""Traces by OpenTelemetry, for who asks for them: `OTEL_EXPORTER_OTLP_ENDPOINT` and its fellows, as the standard says.

Without that variable nothing of this is loaded. With it the packages of requirements-telemetry.txt have to be there:
each request, Celery task and statement is a span then, and the lines of the logs name their trace. Statements are shown
with their placeholders, never with what was put in.
"""

import os
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest

from flowplatform import role
from flowplatform.version import VERSION

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_is_on = False


def is_wanted() -> bool:
    """Say whether the environment names where to send traces."""
    is_off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true"
    return not is_off and any(os.environ.get(name) for name in _ENDPOINTS)


def start() -> None:
    """Begin to trace this process, if that is wanted: after every fork, and before Django loads its middleware.

    Raises ImproperlyConfigured if the packages are missing.
    """
    global _is_on
    if _is_on or not is_wanted():
        return
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.instrumentation.celery import CeleryInstrumentor
        from opentelemetry.instrumentation.django import DjangoInstrumentor
        from opentelemetry.instrumentation.psycopg import PsycopgInstrumentor
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ImproperlyConfigured(
            f"{_ENDPOINTS[0]} is set, but {error.name} is not installed: pip install -r requirements-telemetry.txt"
        ) from error
    ours = {SERVICE_VERSION: VERSION}
    if not os.environ.get("OTEL_SERVICE_NAME"):
        ours[SERVICE_NAME] = f"flowplatform-{role.current()}"
    provider = TracerProvider(resource=Resource.create(ours))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    DjangoInstrumentor().instrument(request_hook=_without_query)
    PsycopgInstrumentor().instrument()
    CeleryInstrumentor().instrument()  # type: ignore[no-untyped-call]
    _is_on = True


def _without_query(span: Any, request: HttpRequest) -> None:
    """Have a span show the address without the query, as the logs do."""
    span.set_attribute("http.url", f"{request.scheme}://{request.META.get('HTTP_HOST', '')}{request.path}")


def add_trace(logger: Any, method: str, line: dict[str, Any]) -> dict[str, Any]:
    """Name the trace in a line of the log."""
    if _is_on:
        from opentelemetry import trace

        context = trace.get_current_span().get_span_context()
        if context.is_valid:
            line["trace_id"] = trace.format_trace_id(context.trace_id)
            line["span_id"] = trace.format_span_id(context.span_id)
    return line
