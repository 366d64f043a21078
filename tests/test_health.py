"""`/health/live` and `/health/ready`: what a supervisor and a load balancer are told, whatever is away."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from django.conf import settings as project
from django.db import connection, connections
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from notifications.models import Event
from notifications.tasks import sweep
from tests.builders import make_execution, make_flow, make_organization
from tests.conftest import Platform
from tests.stack import Stack

BOUND_SECONDS = 2


def ask(path: str, **headers: str) -> HttpResponse:
    response = Client().get(path, headers=headers)
    assert isinstance(response, HttpResponse)
    return response


def ready(status: int, told: str) -> dict[str, Any]:
    """Ask whether this process is ready; return the checks."""
    response = ask("/health/ready")
    body: dict[str, Any] = response.json()  # type: ignore[attr-defined]
    assert (response.status_code, body["status"]) == (status, told), body
    checks: dict[str, Any] = body["checks"]
    return checks


@pytest.fixture
def swallowing() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def database(committed: None) -> Iterator[dict[str, Any]]:
    """The settings of the database that the next connection is made with, to be changed."""
    now = connections.settings["default"]
    before = dict(now)
    yield now
    now.update(before)


@pytest.fixture
def nothing_waits(without_platform: None, committed: None) -> None:
    """Number what other tests have left, and keep everybody else from it."""
    sweep()


# --- Live -----------------------------------------------------------------------------------------------------------


def test_a_process_is_live_without_asking_anybody(django_assert_num_queries: Any, db: None) -> None:
    with django_assert_num_queries(0):
        response = ask("/health/live")
    assert (response.status_code, response.content) == (200, b'{"status":"live","checks":{}}')
    assert "no-store" in response["Cache-Control"]


@pytest.mark.parametrize("path", ["/health/live", "/health/ready"])
def test_probes_come_by_any_name_and_without_a_credential(path: str, committed: None) -> None:
    assert ask(path, Host="10.0.0.7:8000").status_code == 200
    assert ask(path, Host="not even_a:name", Authorization="Bearer nonsense").status_code == 200
    assert Client().post(path).status_code == 405
    assert Client().head(path).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/health/", "/health/other", "/health/live/"])
def test_there_is_nothing_else_below(path: str, db: None) -> None:
    assert ask(path).status_code == 404


# --- Ready ----------------------------------------------------------------------------------------------------------


def test_a_process_that_finds_everything_is_ready(nothing_waits: None) -> None:
    checks = ready(200, "ready")
    assert checks == {name: {"status": "ok", "message": None} for name in ("database", "migrations", "relay", "valkey")}


def test_people_get_a_page(committed: None) -> None:
    page = ask("/health/ready", Accept="text/html,application/xhtml+xml;q=0.9").content.decode()
    assert "<h1>This process is " in page
    assert "database: ok" in page


def test_what_a_client_accepts_is_not_believed_to_be_well_formed(committed: None) -> None:
    for accept in ("*/*", "", "nonsense", "text/plain;q=x", "\xff"):
        assert ask("/health/ready", Accept=accept)["Content-Type"] == "application/json"


def test_without_valkey_a_process_is_degraded_but_answers(committed: None, settings: Settings) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:1"
    checks = ready(200, "degraded")
    assert checks["valkey"] == {"status": "degraded", "message": "does not answer; events arrive later"}
    assert checks["database"]["status"] == "ok"


def test_without_the_database_a_process_is_not_ready(database: dict[str, Any]) -> None:
    database.update(HOST="127.0.0.1", PORT="1")
    checks = ready(503, "unready")
    assert checks["database"] == {"status": "failed", "message": "does not answer"}
    assert checks["migrations"]["message"] == "not known: the database did not say"
    assert checks["valkey"]["status"] == "ok"


def test_a_database_that_is_older_than_the_code_is_not_ready(as_owner: None) -> None:
    applied = MigrationRecorder(connection)
    applied.record_unapplied("tags", "0002_review")
    try:
        assert ready(503, "unready")["migrations"] == {"status": "failed", "message": "1 not applied"}
    finally:
        applied.record_applied("tags", "0002_review")


def test_a_database_without_tables_is_not_ready(database: dict[str, Any]) -> None:
    database.update(NAME="postgres")
    assert ready(503, "unready")["migrations"]["message"].endswith(" not applied")


def test_a_database_that_is_full_keeps_who_has_a_connection(committed: None) -> None:
    with ExitStack() as taken:
        with suppress(psycopg.OperationalError):
            while True:
                taken.enter_context(psycopg.connect(**connection.get_connection_params()))
        checks = ready(200, "degraded")
    assert checks["database"]["message"] == "no connection is to be had beyond those that are kept"


def test_events_that_nobody_numbers_are_told_but_do_not_stop_requests(nothing_waits: None) -> None:
    execution = make_execution(make_flow(make_organization(f"health-{uuid4().hex}")))
    Event.objects.filter(flow_id=execution.flow_id).update(created_at=timezone.now() - timedelta(minutes=1))
    assert ready(200, "degraded")["relay"]["message"] == "events wait for longer than they should"
    sweep()
    ready(200, "ready")


def test_the_answer_is_in_time_although_both_swallow_what_is_sent(
    swallowing: int, database: dict[str, Any], settings: Settings
) -> None:
    settings.REDIS_URL = f"redis://127.0.0.1:{swallowing}"
    database.update(HOST="127.0.0.1", PORT=str(swallowing))
    begin = time.monotonic()
    checks = ready(503, "unready")
    assert time.monotonic() - begin < BOUND_SECONDS
    assert {name: check["status"] for name, check in checks.items()} == {
        "database": "failed",
        "migrations": "degraded",
        "relay": "degraded",
        "valkey": "degraded",
    }
    assert str(swallowing) not in str(checks)  # neither where nor who


def test_a_server_whose_database_swallows_is_live_and_says_in_time_that_it_is_not_ready(
    swallowing: int, tmp_path: Path
) -> None:
    stack = Stack(
        tmp_path,
        {
            "DATABASE_URL": f"postgresql://secret-user:secret-word@127.0.0.1:{swallowing}/flowplatform",
            "REDIS_URL": f"redis://127.0.0.1:{swallowing}",
            "SECRET_KEY": project.SECRET_KEY,
            "ALLOWED_HOSTS": "127.0.0.1",
        },
    )
    stack.start("live")
    try:
        with httpx.Client(base_url=stack.url, timeout=10) as client:
            for _ in range(3):  # nobody waits for those who asked before
                answer = client.get("/health/ready")
                assert (answer.status_code, answer.json()["status"]) == (503, "unready")
                assert answer.elapsed.total_seconds() < BOUND_SECONDS
                assert client.get("/health/live").status_code == 200
        assert "secret" not in answer.text
    finally:
        stack.stop()


def test_every_role_with_http_answers(platform: Platform) -> None:
    assert httpx.get(f"{platform.url}/health/live").json() == {"status": "live", "checks": {}}
    assert httpx.get(f"{platform.url}/health/ready").json()["checks"]["database"]["status"] == "ok"
