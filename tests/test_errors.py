"""Every error has the contract's shape, whoever raises it."""

import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from django.db import DatabaseError, DataError, IntegrityError, InterfaceError, OperationalError
from django.http import HttpRequest
from django.test import Client, RequestFactory

from flowplatform import errors
from flowplatform.accounts.models import Organization
from flowplatform.postgresql.outcome import OutcomeUnknown
from notifications.notifier import PAUSE_SECONDS, Breaker, Notifier
from tests.builders import Api, error_of, make_token, without_id
from tests.conftest import Platform


def raised(kind: type[Exception], sqlstate: str | None) -> Exception:
    """Return a Django database error as psycopg causes it."""
    error = kind("internal text with a table name")
    cause = psycopg.errors.lookup(sqlstate)("x") if sqlstate else psycopg.OperationalError("x")
    error.__cause__ = cause
    return error


def answer(exc: Exception) -> Any:
    request: HttpRequest = RequestFactory().get("/api/flows")
    request.request_id = "01M80P0DMN8EFE6B7ZDD4C8HC8"  # type: ignore[attr-defined]
    return errors.exception_handler(exc, {"request": request})


@pytest.mark.parametrize(
    "exc",
    [
        raised(OperationalError, "57P01"),
        raised(OperationalError, "53300"),
        raised(OperationalError, "08006"),
        raised(OperationalError, "55P03"),
        raised(OperationalError, "57014"),
        raised(OperationalError, "40P01"),
        raised(OperationalError, None),
        InterfaceError("connection already closed"),
    ],
)
def test_a_database_that_is_away_is_503_with_retry_after(exc: Exception) -> None:
    response = answer(exc)
    assert (response.status_code, response.data["error"]["code"]) == (503, "unavailable")
    assert int(response["Retry-After"]) > 0
    assert "internal" not in str(response.data)


def test_a_503_after_a_commit_without_an_answer_does_not_promise_that_nothing_was_written() -> None:
    response = answer(OutcomeUnknown("the connection is lost"))
    assert (response.status_code, response.data["error"]["details"]) == (503, {"written": "unknown"})
    assert int(response["Retry-After"]) > 0
    assert "Nothing was written" not in response.data["error"]["message"]


def test_refused_data_is_422_a_refused_duplicate_409_and_the_rest_a_bug() -> None:
    assert answer(raised(DataError, "22P02")).status_code == 422
    assert answer(raised(OperationalError, "54000")).status_code == 422
    assert answer(raised(IntegrityError, "23505")).status_code == 409
    assert answer(raised(DatabaseError, "42P01")) is None


@pytest.mark.django_db
@pytest.mark.parametrize("path", ["/api/", "/api/nothing", "/api/flows/x/y/z", "/api/%00"])
def test_an_unknown_api_path_is_404_in_the_envelope(path: str) -> None:
    response = Client().get(path)
    assert response.status_code == 404
    assert error_of(response)["code"] == "not_found"  # type: ignore[arg-type]


def test_a_method_that_a_path_does_not_have_is_405(organization: Organization) -> None:
    response = Api(make_token(organization))("DELETE", "/api/flows")
    assert (response.status_code, error_of(response)["code"]) == (405, "method_not_allowed")


def test_a_bug_says_nothing_of_the_inside(organization: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr("executions.views.page_of", broken)
    response = Api(make_token(organization)).get("/api/flows")
    assert (response.status_code, error_of(response)["code"]) == (500, "internal_error")
    assert b"secret" not in response.content


def test_the_api_speaks_json_whatever_is_accepted(organization: Organization) -> None:
    response = Api(make_token(organization)).get("/api/flows", Accept="text/html")
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")


@pytest.mark.parametrize("path", ["/api/flows?page=%00", "/api/flow-executions?flow_id=%00", "/api/flows/%00"])
def test_nul_in_an_address_is_422(organization: Organization, path: str) -> None:
    assert Api(make_token(organization)).get(path).status_code == 422


def test_every_404_of_the_api_is_the_same_bytes(organization: Organization) -> None:
    api = Api(make_token(organization))
    assert without_id(api.get("/api/nothing")) == without_id(api.get("/api/flows/01a20160-373d-77d9-b95d-8aba70c0efd8"))


@pytest.mark.usefixtures("committed")
class TestOverRealHttp:
    """What only a real server shows."""

    @pytest.fixture
    def client(self, platform: Platform) -> Iterator[httpx.Client]:
        headers = {"Authorization": f"Bearer {platform.make_token()}", "Content-Type": "application/json"}
        with httpx.Client(base_url=platform.url, headers=headers) as client:
            yield client

    def test_a_chunked_body_is_read(self, client: httpx.Client) -> None:
        def chunks() -> Iterator[bytes]:
            yield b'{"display_name": "chunked", '
            yield b'"definition": {"tasks": [{"name": "a"}]}}'

        assert client.post("/api/flows", content=chunks()).status_code == 201

    def test_a_chunked_body_over_the_limit_is_413(self, client: httpx.Client) -> None:
        response = client.post("/api/flows", content=(b" " * 100_000 for _ in range(12)))
        assert (response.status_code, response.json()["error"]["code"]) == (413, "payload_too_large")
        assert client.get("/api/flows").status_code == 200

    def test_hostile_addresses_get_a_4xx(self, client: httpx.Client) -> None:
        for path in ("/api/flows?x=%ff", "/api/%ff%fe", "/api/flows/..%2f..", "/api/flows?page=" + "9" * 5000):
            assert 400 <= client.get(path).status_code < 500, path

    def test_a_foreign_host_header_is_400_in_the_envelope(self, client: httpx.Client) -> None:
        response = client.get("/api/flows", headers={"Host": "evil.example"})
        assert (response.status_code, response.json()["error"]["code"]) == (400, "bad_request")


def test_the_breaker_opens_after_three_failures_and_probes_after_a_pause() -> None:
    now = 0.0
    breaker = Breaker(failures=3, pause=3, clock=lambda: now)
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert not breaker.allows()
    now = 3.1
    assert breaker.allows()
    breaker.failed()
    assert not breaker.allows()
    now = 7.0
    breaker.succeeded()
    assert breaker.allows()


def test_hints_travel_together_and_a_failing_send_costs_the_request_nothing() -> None:
    sent: list[list[str]] = []

    def send(flows: Any) -> None:
        sent.append(list(flows))
        raise OSError("the broker is away")

    notifier = Notifier(send)
    flows = {uuid4() for _ in range(50)}
    begin = time.perf_counter()
    for flow in [*flows, *flows]:
        notifier.hint(flow)
    assert time.perf_counter() - begin < 1
    deadline = time.monotonic() + 5
    while sum(map(len, sent)) < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert {flow for batch in sent for flow in batch} == {str(flow) for flow in flows}


def test_under_load_messages_to_the_broker_keep_their_distance() -> None:
    sent: list[float] = []
    notifier = Notifier(lambda flows: sent.append(time.monotonic()))
    deadline = time.monotonic() + 10
    while len(sent) < 4 and time.monotonic() < deadline:
        notifier.hint(uuid4())
        time.sleep(0.005)
    gaps = [after - before for before, after in pairwise(sent)]
    assert len(gaps) == 3
    assert min(gaps) > PAUSE_SECONDS - 0.01
