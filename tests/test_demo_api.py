"""The HTTP client of the demo worker and of replay, against a server that fails on demand."""

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flowplatform.demo import api as client
from flowplatform.demo.api import ApiError, ConnectionSettingError, FlowApi, StatusUpdate, UnreachableError

EXECUTION = "0190a000-0000-7000-8000-000000000000"
QUEUED = [StatusUpdate("collect", "queued")]
NOT_AT_ALL = 0  # a status code in a script: close the connection instead of answering


@dataclass
class Answer:
    """One scripted answer."""

    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)


class ScriptedServer(ThreadingHTTPServer):
    """Answers from a script, the last answer for ever; keeps what it was asked."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.script: list[Answer] = [Answer(200, [])]
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def keys(self) -> set[str | None]:
        return {headers.get("Idempotency-Key") for _, _, headers in self.asked}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        script = self.server.script
        answer = script.pop(0) if len(script) > 1 else script[0]
        if answer.status == NOT_AT_ALL:
            self.close_connection = True
            return
        body = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_PATCH = _answer  # noqa: N815 (http.server's names)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.shutdown()
    scripted.server_close()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "RETRY_BASE_SECONDS", 0.001)


@pytest.fixture
def waits() -> list[str]:
    return []


@pytest.fixture
def api(server: ScriptedServer, waits: list[str]) -> Iterator[FlowApi]:
    flow_api = FlowApi(f"{server.url}/", "a.token", patience_seconds=10, on_wait=waits.append)
    yield flow_api
    flow_api.close()


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504, NOT_AT_ALL])
def test_a_status_batch_is_repeated_with_the_same_key_until_it_is_answered(
    server: ScriptedServer, api: FlowApi, waits: list[str], status: int
) -> None:
    server.script = [Answer(status), Answer(status), Answer(200, [])]
    api.report(EXECUTION, QUEUED)
    assert len(server.asked) == 3
    assert len(server.keys()) == 1
    assert server.keys() != {None}
    assert len(waits) == 1
    assert waits[0].startswith(f"waiting for the server at {server.url}: ")


def test_a_batch_whose_key_is_in_flight_waits_for_the_first_answer(server: ScriptedServer, api: FlowApi) -> None:
    server.script = [Answer(409), Answer(200, [])]
    api.report(EXECUTION, QUEUED)
    assert len(server.asked) == 2


def test_every_batch_has_a_key_of_its_own(server: ScriptedServer, api: FlowApi) -> None:
    api.report(EXECUTION, QUEUED)
    api.report(EXECUTION, QUEUED)
    assert len(server.keys()) == 2


def test_retry_after_is_waited_for(server: ScriptedServer, api: FlowApi, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    server.script = [
        Answer(429, headers={"Retry-After": "7"}),
        Answer(503, headers={"Retry-After": "soon"}),
        Answer(204),
    ]
    api.set_execution_status(EXECUTION, "running")
    assert 7 <= slept[0] <= 7.1
    assert slept[1] <= 0.1


def test_an_execution_is_not_created_twice_when_an_answer_is_lost(server: ScriptedServer, api: FlowApi) -> None:
    server.script = [Answer(NOT_AT_ALL), Answer(201, {})]
    with pytest.raises(UnreachableError, match="/api/flow-executions may or may not have arrived: "):
        api.create_execution("a-flow", {})
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_an_execution_is_created_after_an_answer_that_promises_nothing_was_written(
    server: ScriptedServer, api: FlowApi, status: int
) -> None:
    server.script = [Answer(status), Answer(201, {"id": EXECUTION})]
    assert api.create_execution("a-flow", {})["id"] == EXECUTION


def test_a_bug_of_the_server_is_not_asked_for_for_ever(server: ScriptedServer, api: FlowApi) -> None:
    server.script = [Answer(500)]
    with pytest.raises(ApiError, match="was answered 500"):
        api.execution(EXECUTION)
    assert len(server.asked) == client.SERVER_ERROR_ATTEMPTS


def test_a_server_that_stays_away_is_given_up_with_its_address(server: ScriptedServer) -> None:
    url = server.url
    server.shutdown()
    server.server_close()
    with pytest.raises(UnreachableError, match=f"GET {url}/api/flow-executions/x got no answer: .*refused"):
        FlowApi(url, "a.token", patience_seconds=0.05).execution("x")


def test_a_server_that_comes_back_is_found_again(server: ScriptedServer, api: FlowApi) -> None:
    server.shutdown()
    server.server_close()
    returned: list[ScriptedServer] = []
    threading.Timer(0.2, lambda: returned.append(ScriptedServer(server.server_port))).start()
    api.report(EXECUTION, QUEUED)
    assert len(returned[0].asked) == 1
    returned[0].shutdown()
    returned[0].server_close()


def test_a_refusal_shows_the_servers_message_and_the_request_id(server: ScriptedServer, api: FlowApi) -> None:
    error = {"message": "Unknown tasks.", "code": "bad_request", "details": [{"index": 0, "task_name": "x"}]}
    server.script = [Answer(400, {"error": error, "request_id": "01JX"})]
    with pytest.raises(ApiError) as caught:
        api.report(EXECUTION, QUEUED)
    path = f"{server.url}/api/flow-executions/{EXECUTION}/task-status"
    assert str(caught.value) == (
        f"POST {path} was answered 400: Unknown tasks. ([{{'index': 0, 'task_name': 'x'}}]) [request 01JX]"
    )
    assert not caught.value.is_about_credentials


def test_a_body_that_does_not_fit_is_told_with_its_place(server: ScriptedServer, api: FlowApi) -> None:
    problem = {"loc": ["body", "statuses", 3], "msg": "Field required", "type": "missing"}
    server.script = [Answer(422, {"detail": [problem, problem]}, {"X-Request-ID": "01JY"})]
    with pytest.raises(ApiError, match=r"422: body\.statuses\.3: Field required \[request 01JY\]"):
        api.report(EXECUTION, QUEUED)


@pytest.mark.parametrize("answer", [Answer(200, "<html>"), Answer(404, "<html>"), Answer(301, "")])
def test_another_server_at_the_address_is_recognized(server: ScriptedServer, api: FlowApi, answer: Answer) -> None:
    answer.headers["Content-Type"] = "text/html"
    server.script = [answer]
    with pytest.raises(ApiError, match=rf"{answer.status}: not an answer of Flow Platform \(text/html\)"):
        api.ensure_flow("a", "", {"tasks": []})


@pytest.mark.parametrize(("status", "is_about_credentials"), [(401, True), (403, True), (404, False)])
def test_a_refused_token_is_told_apart(
    server: ScriptedServer, api: FlowApi, status: int, is_about_credentials: bool
) -> None:
    server.script = [Answer(status)]
    with pytest.raises(ApiError) as caught:
        api.execution(EXECUTION)
    assert caught.value.is_about_credentials is is_about_credentials
    assert server.asked[0][2]["Authorization"] == "Bearer a.token"


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "http://", "http://[oops", "http://a\0b"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConnectionSettingError, match="is not the address of a server"):
        FlowApi(url, "a.token")


def test_lists_are_read_to_their_end(server: ScriptedServer, api: FlowApi) -> None:
    newest = {"task_name": "b", "status": "queued"}
    oldest = {"task_name": "a", "status": "queued"}
    server.script = [
        Answer(200, {"statuses": [newest], "next_cursor": "c/2"}),
        Answer(200, {"statuses": [oldest], "next_cursor": None}),
    ]
    assert api.status_history(EXECUTION) == [("a", "queued"), ("b", "queued")]
    assert server.asked[1][1].endswith("/task-status?cursor=c%2F2&limit=1000")
