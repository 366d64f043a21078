"""Traces, for who asks for them: real processes send them to a small collector of the test, by OTLP over HTTP."""

import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.core.exceptions import ImproperlyConfigured
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from flowplatform import telemetry
from tests.builders import make_execution, make_flow, make_organization, make_token, statuses
from tests.servers import DATA_DIR
from tests.stack import ROOT, Stack, wait_until


@dataclass
class Span:
    """One span, with the service that it came from."""

    service: str
    name: str
    trace_id: str
    span_id: str
    parent: str
    attributes: dict[str, str]


@dataclass
class Collector:
    """An OTLP receiver."""

    spans: list[Span] = field(default_factory=list)
    url: str = ""

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            about = _attributes(resource.resource.attributes)
            for scope in resource.scope_spans:
                self.spans += [
                    Span(
                        about["service.name"],
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        _attributes(span.attributes),
                    )
                    for span in scope.spans
                ]


def _attributes(pairs: Any) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in pairs}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            collector.take(gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield collector
        server.shutdown()


def test_a_request_and_the_task_that_follows_are_traces_that_the_logs_name(
    without_platform: None, committed: None, collector: Collector, tmp_path: Path
) -> None:
    execution = make_execution(make_flow(make_organization(f"traces-{uuid4().hex}")))
    headers = {"Authorization": f"Bearer {make_token(execution.organization)}"}
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_BSP_SCHEDULE_DELAY": "100",  # milliseconds
        "LOG_FORMAT": "json",
        "LOG_REQUESTS": "true",
    }
    stack = Stack(DATA_DIR, environment, logs=tmp_path)
    stack.start("live", "worker")
    try:
        path = f"/api/flow-executions/{execution.pk}/task-status"
        body = statuses(("extract", "a secret of the tenant"))
        assert httpx.post(f"{stack.url}{path}?key=hidden", json=body, headers=headers).status_code == 200
        wait_until(
            lambda: any(span.service == "flowplatform-worker" for span in collector.spans), what="a span of the worker"
        )
        wait_until(lambda: any(span.name.startswith("POST") for span in collector.spans), what="that of the request")
    finally:
        stack.stop()

    (request,) = [span for span in collector.spans if span.name.startswith("POST")]
    assert request.service == "flowplatform-live"
    assert request.attributes["http.url"] == f"{stack.url}{path}"  # without the query
    assert request.name == "POST api/flow-executions/<id:flow_execution_id>/task-status"
    statements = [span for span in collector.spans if span.parent == request.span_id]
    assert any("INSERT INTO executions_taskstatus" in "".join(span.attributes.values()) for span in statements)
    assert any("notifications.relay" in span.name for span in collector.spans if span.service == "flowplatform-worker")
    assert "a secret of the tenant" not in str(collector.spans)
    assert headers["Authorization"] not in str(collector.spans)
    lines = map(json.loads, stack.log("live").read_text().splitlines())
    assert [line["trace_id"] for line in lines if line.get("path") == path] == [request.trace_id]


def test_nothing_of_it_is_loaded_where_nobody_asks_for_it() -> None:
    # redis-py looks for the SDK by itself.
    script = """
import sys, flowplatform.wsgi
print([name for name in sys.modules if name.startswith(("opentelemetry.instrumentation", "opentelemetry.exporter"))])
"""
    environment = {"PATH": os.environ["PATH"], "FLOWPLATFORM_DATA_DIR": str(DATA_DIR)}
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr


@pytest.mark.parametrize(
    ("environment", "wanted"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector:4318/v1/traces"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_the_variables_are_those_of_the_standard(
    environment: dict[str, str], wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert telemetry.is_wanted() is wanted


def test_who_asks_for_it_without_the_packages_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install -r requirements-telemetry\.txt"):
        telemetry.start()
