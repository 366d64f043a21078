"""What is sent again, for how long, and that a write is there once."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from flowplatform_client import (
    ApiError,
    ConflictError,
    ConnectionFailedError,
    FlowPlatform,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    TagChange,
    TaskExecution,
    UnavailableError,
    retries,
)

from tests.builders import definition
from tests.client.conftest import Asker
from tests.client.scripted import NOT_AT_ALL, Answer, ScriptedServer, refused, scripted_server
from tests.conftest import Platform
from tests.faults.proxy import Proxy
from tests.stack import free_port, wait_until

EXECUTION = {
    "id": "0190a000-0000-7000-8000-000000000000", "flow_id": "f", "flow_version": 1, "status": "queued", "input": {},
    "organization_id": "o", "created_at": "2026-11-22T10:00:00Z", "updated_at": "2026-11-22T10:00:00Z",
    "modified_by": "service:x", "a field of a later version": 1,
}  # fmt: skip
CHANGE = TagChange(operation="add", flow_execution_id="e", task_name="t", tag="a", tag_type="b")
UNAVAILABLE = refused("unavailable")
ATTEMPT = TaskExecution(
    id="a", flow_execution_id="e", task_name="t", task_execution_idx=0, processing_status="completed", input=None,
    output=None, error=None, started_at=None, completed_at=None, stale_status="x", edited_status="x", tags=(),
    created_at=datetime(2026, 11, 22, tzinfo=UTC), updated_at=datetime(2026, 11, 22, tzinfo=UTC), modified_by="x",
    organization_id="o",
)  # fmt: skip
QUICK = RetryPolicy(attempts=1000, first_pause_seconds=0.001, longest_pause_seconds=0.05)

Question = Callable[[Any], Any]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as scripted:
        yield scripted


@pytest.fixture
def waits() -> list[str]:
    return []


@pytest.fixture
def ask(kind: str, server: ScriptedServer, waits: list[str]) -> Iterator[Asker]:
    asker = Asker(kind, f"{server.url}/", "a.token", retries=QUICK, on_wait=waits.append)
    yield asker
    asker.close()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Have nobody wait, and keep for how long they would have."""
    made: list[float] = []

    async def sleep(seconds: float) -> None:
        made.append(seconds)

    monkeypatch.setattr("flowplatform_client.http.time.sleep", made.append)
    monkeypatch.setattr("flowplatform_client.http.asyncio.sleep", sleep)
    return made


READ: Question = lambda platform: platform.executions.get("e")  # noqa: E731
CREATE: Question = lambda platform: platform.executions.create("f")  # noqa: E731
STATUSES: Question = lambda platform: platform.statuses.add("e", [("collect", "queued")])  # noqa: E731
QUESTIONS: dict[str, Question] = {
    "statuses": STATUSES,
    "tags": lambda platform: platform.tags.change([CHANGE]),
    "flow": lambda platform: platform.flows.create("a", {}),
    "version": lambda platform: platform.flows.define("f", {}),
    "execution": CREATE,
    "execute": lambda platform: platform.executions.execute("e"),
    "edit": lambda platform: platform.task_executions.edit(ATTEMPT),
    "read": READ,
    "set status": lambda platform: platform.executions.set_status("e", "running"),
    "attempt": lambda platform: platform.task_executions.put("e", "t", 0, "running"),
    "delete": lambda platform: platform.executions.delete("e"),
    "cancel": lambda platform: platform.executions.cancel("e"),
}


def outcome_of(ask: Asker, question: Question) -> object:
    """Return what came of it; that an answer is none of this request does not matter here."""
    try:
        return ask(question)
    except ApiError as error:
        return error


@pytest.mark.parametrize("question", QUESTIONS.values(), ids=QUESTIONS)
def test_every_request_is_sent_until_it_is_answered(
    server: ScriptedServer, ask: Asker, waits: list[str], question: Question
) -> None:
    lost = [Answer(NOT_AT_ALL), Answer(200, EXECUTION, cut=30)]
    passing = [Answer(status, refused("x")) for status in (408, 429, 500, 502, 503, 504)]
    server.script = [*lost, *passing, Answer(403)]
    assert getattr(outcome_of(ask, question), "status", None) == 403
    assert len(server.asked) == 9
    assert len(waits) == 1
    assert len(server.keys) == 1
    assert (server.keys == {None}) == (server.asked[0][0] == "GET")


def test_a_server_that_comes_back_is_found_again_whatever_is_asked(server: ScriptedServer, ask: Asker) -> None:
    server.stop()
    returned: list[ScriptedServer] = []

    def come_back() -> None:
        returned.append(ScriptedServer(server.server_port, [Answer(201, EXECUTION)]))

    threading.Timer(0.3, come_back).start()
    assert ask(CREATE).id == EXECUTION["id"]
    wait_until(lambda: returned)
    assert len(returned[0].asked) == 1
    returned[0].stop()


def test_a_write_whose_first_attempt_still_runs_waits_for_its_answer(server: ScriptedServer, ask: Asker) -> None:
    server.script = [Answer(409, refused("conflict"), {"Retry-After": "0"}), Answer(200, [])]
    assert ask(STATUSES) == []
    assert len(server.asked) == 2


def test_any_other_conflict_is_told_at_once(server: ScriptedServer, ask: Asker) -> None:
    server.script = [Answer(409, refused("conflict"))]
    with pytest.raises(ConflictError):
        ask(STATUSES)
    assert len(server.asked) == 1


def test_every_call_has_a_key_of_its_own(server: ScriptedServer, ask: Asker) -> None:
    for _ in range(2):
        ask(STATUSES)
    assert len(server.keys) == 2


def test_retry_after_is_waited_for_whether_it_is_a_number_or_a_date(
    server: ScriptedServer, ask: Asker, slept: list[float]
) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    server.script = [
        *(Answer(429, headers={"Retry-After": text}) for text in ("7", date, "soon", "-1")),
        Answer(200, EXECUTION),
    ]
    ask(READ)
    assert 7 <= slept[0] <= 7.1
    assert 18 <= slept[1] <= 20.1
    assert max(slept[2:]) <= 0.1


def test_a_server_that_asks_for_more_time_than_there_is_gets_no_second_request(
    server: ScriptedServer, ask: Asker, slept: list[float]
) -> None:
    server.script = [Answer(429, refused("rate_limited"), {"Retry-After": "3600"})]
    with pytest.raises(RateLimitedError) as limited:
        ask(READ)
    assert limited.value.retry_after == 3600
    assert len(server.asked) == 1
    assert slept == []


def test_pauses_are_jittered_up_to_a_bound_that_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = RetryPolicy(first_pause_seconds=0.1, longest_pause_seconds=1.0)
    pauses = [[policy.pause(attempt, 0) for _ in range(300)] for attempt in range(6)]
    for made, bound in zip(pauses, (0.1, 0.2, 0.4, 0.8, 1.0, 1.0), strict=True):
        assert 0 <= min(made) < bound / 10
        assert bound * 0.9 < max(made) <= bound
    assert policy.pause(2000, 0) <= 1.0


@pytest.mark.parametrize(
    ("policy", "status", "count"),
    [
        (RetryPolicy(attempts=3, first_pause_seconds=0.001), 503, 3),
        (RetryPolicy(server_error_attempts=2, first_pause_seconds=0.001), 500, 2),
        (RetryPolicy.never(), 503, 1),
    ],
)
def test_attempts_are_bounded_and_the_last_answer_is_told(
    server: ScriptedServer, kind: str, policy: RetryPolicy, status: int, count: int
) -> None:
    server.script = [Answer(status, UNAVAILABLE)]
    asker = Asker(kind, server.url, "a.token", retries=policy)
    with pytest.raises(ServerError, match=rf"was answered {status}: No\. \[request 01JX\]"):
        asker(READ)
    assert len(server.asked) == count
    asker.close()


@pytest.mark.parametrize("details", [None, {"written": "unknown"}])
def test_a_server_that_gives_up_says_whether_it_may_have_written(
    server: ScriptedServer, kind: str, details: Any
) -> None:
    server.script = [Answer(503, refused("unavailable", details=details))]
    asker = Asker(kind, server.url, "a.token", retries=RetryPolicy.never())
    with pytest.raises(UnavailableError) as failed:
        asker(STATUSES)
    assert failed.value.may_have_been_written == (details is not None)
    asker.close()


def test_a_call_ends_in_its_time_also_if_the_server_says_nothing_or_a_byte_at_a_time(kind: str) -> None:
    """A timeout of a socket begins anew with every byte."""
    for says in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"):
        with socket.create_server(("127.0.0.1", 0)) as slow:
            threading.Thread(target=_drip, args=(slow, says), daemon=True).start()
            policy = RetryPolicy(total_seconds=0.6, first_pause_seconds=0.01)
            asker = Asker(kind, f"http://127.0.0.1:{slow.getsockname()[1]}", "a.token", timeout=0.3, retries=policy)
            begun = time.monotonic()
            with pytest.raises(ConnectionFailedError, match="got no answer: "):
                asker(READ)
            assert time.monotonic() - begun < 2
            asker.close()


def _drip(listener: socket.socket, says: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_drip_to, args=(connection, says), daemon=True).start()


def _drip_to(connection: socket.socket, says: bytes) -> None:
    with connection:
        try:
            connection.sendall(says)
            for _ in range(100):
                time.sleep(0.1)
                if says:
                    connection.sendall(b"x")
        except OSError:
            return


def test_a_server_that_stays_away_is_given_up_with_its_address(kind: str) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    asker = Asker(kind, url, "a.token", retries=RetryPolicy(total_seconds=0.05, first_pause_seconds=0.01))
    with pytest.raises(ConnectionFailedError, match=f"GET {url}/api/flow-executions/e got no answer: ") as failed:
        asker(READ)
    assert not failed.value.may_have_arrived
    asker.close()


@pytest.mark.parametrize(
    "answer", [Answer(200, "<html>"), Answer(200, {"id": 1}), Answer(404, "<html>"), Answer(301, "")]
)
def test_another_server_at_the_address_is_recognized(server: ScriptedServer, ask: Asker, answer: Answer) -> None:
    answer.headers |= {"Content-Type": "text/html", "Location": "http://127.0.0.1:1/"}
    server.script = [answer]
    with pytest.raises(ApiError, match=rf"{answer.status}: not an answer of Flow Platform \(text/html\)") as refused:
        ask(READ)
    assert refused.value.code == ""
    assert len(server.asked) == 1


def test_what_the_server_is_told_of_who_asks(server: ScriptedServer, ask: Asker) -> None:
    server.script = [Answer(200, EXECUTION)]
    ask(READ)
    headers = server.asked[0][2]
    assert headers["Authorization"] == "Bearer a.token"
    assert headers["User-Agent"].startswith("flowplatform-client/")


def test_a_longer_wait_than_the_servers_limits_have_is_not_believed() -> None:
    assert RetryPolicy.for_ever().pause(0, 1e9) < retries.LONGEST_RETRY_AFTER_SECONDS + 1


# --- The real server, behind a proxy that cuts its answers ----------------------------------------------------------


@pytest.mark.parametrize("mode", ["forget", "halve"])
def test_writes_with_a_key_are_there_once_although_their_answers_were_cut(
    platform: Platform, client: FlowPlatform, kind: str, mode: Any
) -> None:
    flow = client.flows.create("Invoices", definition("extract"))
    execution = client.executions.create(flow.id)
    port = free_port()
    proxy = Proxy({"web": (port, platform.port)})
    asker = Asker(
        kind,
        f"http://127.0.0.1:{port}",
        client.address.token,
        retries=RetryPolicy(attempts=200, first_pause_seconds=0.01, longest_pause_seconds=0.05),
        on_wait=lambda reason: threading.Timer(0.05, proxy.turn, ["web", "pass"]).start(),
    )
    try:
        proxy.turn("web", mode)
        written = asker(lambda mine: mine.statuses.add(execution.id, [("extract", "running"), ("extract", "done")]))
        assert [*client.statuses.history(execution.id)] == written[::-1]
        proxy.turn("web", mode)
        assert asker(lambda mine: mine.tags.add(execution.id, "extract", "late", "quality")) == "added"
        assert len(client.tags.list(execution.id, include_deleted=True)) == 1
        proxy.turn("web", mode)
        created = asker(lambda mine: mine.executions.create(flow.id))
        assert {run.id for run in client.executions.list(flow.id)} == {execution.id, created.id}
    finally:
        asker.close()
        proxy.stop()
