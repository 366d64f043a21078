"""What the reporter makes of answers that the platform says too seldom, and the connection that it keeps."""

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flowplatform_client import FlowPlatform
from flowplatform_client.address import Address
from flowplatform_client.reporter import Reporter, lane
from flowplatform_client.reporter.wire import OneConnection, ThroughProxy, driver_to

from deploy import certificate
from tests.client.reporting import Run, some, tell, way_to
from tests.client.scripted import NOT_AT_ALL, Answer, ScriptedServer, refused, scripted_server
from tests.conftest import Platform
from tests.stack import wait_until

SECONDS = 20.0
EXECUTION = "01a20400-0000-7000-8000-000000000000"
WRITTEN = Answer(200, [])
# None of these says that the statuses are written, or that they never will be.
AGAIN = [
    Answer(NOT_AT_ALL),
    Answer(200, "x" * 100, cut=50),
    Answer(503, refused("unavailable", details={"written": "unknown"})),
    Answer(502, "<h1>Bad gateway</h1>"),
    Answer(500, refused("internal_error")),
    Answer(429, refused("rate_limited"), {"Retry-After": "0"}),
    Answer(409, refused("conflict")),
    Answer(408, refused("request_timeout")),
    Answer(401, refused("unauthenticated")),
    Answer(200, "<p>Please sign in to the network"),
    Answer(302, "", {"Location": "/login"}),
    Answer(404, "<p>No such site"),
    Answer(403, "blocked by policy"),
]


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "PAUSES", lane.RetryPolicy(first_pause_seconds=0.002, longest_pause_seconds=0.002))
    monkeypatch.setattr(lane, "REFUSED_TOKEN_SECONDS", 0.01)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as scripted:
        yield scripted


def reporter_at(url: str, folder: Path, **options: Any) -> Reporter:
    return Reporter(FlowPlatform(url, "a.token", **options), EXECUTION, spool=folder)


def test_a_batch_is_sent_again_with_its_key_until_it_is_written_for_certain(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script = [*AGAIN, WRITTEN]
    with reporter_at(server.url, tmp_path) as reporter:
        tell(reporter, some(3))
        assert reporter.flush(SECONDS)
    assert len(server.asked) == len(AGAIN) + 1
    assert len(server.keys) == 1
    assert {(method, path) for method, path, _ in server.asked} == {
        ("POST", f"/api/flow-executions/{EXECUTION}/task-status")
    }


def test_the_server_says_when_it_wants_to_be_asked_again(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_for: list[float] = []
    pause = lane.PAUSES.pause
    monkeypatch.setattr(lane.RetryPolicy, "pause", lambda self, attempt, asked: asked_for.append(asked) or 0.0)
    server.script = [Answer(429, refused("rate_limited"), {"Retry-After": "7"}), WRITTEN]
    with reporter_at(server.url, tmp_path) as reporter:
        tell(reporter, some(3))
        assert reporter.flush(SECONDS)
    assert asked_for == [7.0]
    assert pause(0, 7.0) >= 7.0


def test_a_body_that_is_too_large_for_a_proxy_is_sent_in_parts(server: ScriptedServer, tmp_path: Path) -> None:
    server.script = [Answer(413, "<h1>Too large</h1>"), Answer(413, "<h1>Too large</h1>"), WRITTEN]
    with reporter_at(server.url, tmp_path) as reporter:
        tell(reporter, some(4))
        assert reporter.flush(SECONDS)
    assert len(server.asked) == 5  # four, two, and then one, one and two
    assert len(server.keys) == 5


def test_a_connection_that_was_closed_while_nothing_was_told_costs_nothing(
    committed: None, platform: Platform, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = Run()
    with way_to(platform.port) as way, Reporter(FlowPlatform(way.url, run.token), run.id, spool=tmp_path) as reporter:
        for number in range(3):
            tell(reporter, some(1, number))
            assert reporter.flush(SECONDS)
            way.turn("cut")
    assert run.history() == some(3)
    assert "tried again" not in caplog.text


def test_the_certificates_are_those_of_the_client(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    certificate.make(tmp_path, ["localhost"])
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / certificate.CHAIN, tmp_path / certificate.KEY)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_port}"
    reporter = reporter_at(url, tmp_path / "spool")
    tell(reporter, some(3))
    wait_until(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
    reporter.close(0)
    assert server.asked == []
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / certificate.CHAIN))
    assert reporter.flush(SECONDS)
    assert len(server.asked) == 1


def test_a_proxy_of_the_environment_is_asked_for_what_is_not_local(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, server.url)
    monkeypatch.setenv("no_proxy", "inside.example")
    with reporter_at("http://flows.example", tmp_path, allow_plain_http=True) as reporter:
        tell(reporter, some(3))
        assert reporter.flush(SECONDS)
    [(_, path, headers)] = server.asked
    assert path == f"http://flows.example/api/flow-executions/{EXECUTION}/task-status"
    assert json.loads(headers["Content-Length"]) > 0
    for url, kind in {
        "http://flows.example": ThroughProxy,
        "http://inside.example": OneConnection,
        "http://127.0.0.1:1": OneConnection,
        "https://flows.example": OneConnection,
    }.items():
        assert type(driver_to(Address(url, "a.token", allow_plain_http=True), timeout=1)) is kind
