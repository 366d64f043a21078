"""A client that did not hear an answer asks again with its key, and nothing is written twice."""

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.db import connection, transaction
from django.utils import timezone

from executions.models import Flow, FlowExecution, TaskStatus
from flowplatform.accounts.models import Organization
from flowplatform.idempotency.models import IdempotencyKey
from flowplatform.idempotency.services import RequestKey, once, prune_keys
from notifications.models import Event
from tags.models import TaskTag
from tests.builders import Api, definition, error_of, make_execution, make_flow, make_organization, make_token, statuses
from tests.conftest import Platform
from tests.stack import wait_until


@pytest.fixture
def execution(organization: Organization) -> FlowExecution:
    return make_execution(make_flow(organization))


@pytest.fixture
def worker(organization: Organization) -> Api:
    return Api(make_token(organization))


def report(api: Api, execution: FlowExecution, key: str, status: str = "running") -> httpx.Response:
    path = f"/api/flow-executions/{execution.pk}/task-status"
    return api.post(path, statuses(("extract", status)), **{"Idempotency-Key": key})  # type: ignore[return-value]


def test_the_same_key_and_body_replay_the_first_answer(worker: Api, execution: FlowExecution) -> None:
    first, second = report(worker, execution, "a"), report(worker, execution, "a")
    assert (first.status_code, second.status_code) == (200, 200)
    assert first.content == second.content
    assert TaskStatus.objects.filter(organization_id=execution.organization_id).count() == 1
    assert Event.objects.filter(flow_id=execution.flow_id, type="task_status.added").count() == 1
    (key,) = IdempotencyKey.objects.all()
    assert len(key.answer) == 8 + 16  # the history has the rest
    assert report(worker, execution, "b").content != first.content
    assert TaskStatus.objects.filter(organization_id=execution.organization_id).count() == 2


def test_the_same_key_with_another_body_or_path_is_422(worker: Api, execution: FlowExecution) -> None:
    report(worker, execution, "a")
    other = report(worker, execution, "a", status="completed")
    assert other.status_code == 422
    assert other.json()["detail"][0]["loc"] == ["header", "Idempotency-Key"]
    elsewhere = make_execution(execution.flow)
    assert report(worker, elsewhere, "a").status_code == 422
    assert TaskStatus.objects.filter(organization_id=execution.organization_id).count() == 1


def test_an_execution_is_queued_once_per_key(worker: Api, execution: FlowExecution) -> None:
    def queue(key: str, month: str = "2026-11") -> httpx.Response:
        body = {"flow_id": str(execution.flow_id), "input": {"month": month}}
        return worker.post("/api/flow-executions", body, **{"Idempotency-Key": key})  # type: ignore[return-value]

    first, second = queue("a"), queue("a")
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert queue("a", month="2026-12").status_code == 422
    assert queue("b").content != first.content
    assert FlowExecution.objects.count() == 3
    assert Event.objects.filter(type="flow_execution.created").count() == 3


def test_flows_and_their_versions_are_made_once_per_key(worker: Api) -> None:
    def twice(method: str, path: str, body: Any) -> Any:
        first, second = (worker(method, path, body, **{"Idempotency-Key": method}) for _ in range(2))
        assert first.status_code == second.status_code == (201 if method == "POST" else 200)
        assert first.content == second.content
        return first.json()

    flow = twice("POST", "/api/flows", {"display_name": "Invoices", "definition": definition("extract")})
    assert Flow.objects.get(display_name="Invoices").version == 1
    path = f"/api/flows/{flow['id']}/definition"
    assert twice("PUT", path, {"definition": definition("extract", "classify")})["version"] == 2
    assert Flow.objects.get(pk=flow["id"]).version == 2


def test_an_execution_is_executed_again_once_per_key_and_query(worker: Api, execution: FlowExecution) -> None:
    report(worker, execution, "a")
    path = f"/api/flow-executions/{execution.pk}/execute"

    def execute(query: str = "") -> int:
        return worker.post(f"{path}{query}", None, **{"Idempotency-Key": "again"}).status_code

    assert [execute(), execute()] == [204, 204]
    assert TaskStatus.objects.filter(flow_execution=execution, status="queued").count() == 1
    assert execute("?only_stale=true") == 422


def test_an_edit_whose_answer_was_lost_is_made_once_and_answered_again(worker: Api, execution: FlowExecution) -> None:
    report = {"flow_execution_id": str(execution.pk), "task_name": "extract", "task_execution_idx": 0}
    read = worker.post("/api/task-executions", {**report, "processing_status": "completed", "output": 1}).json()
    edit = read | {"output": 2}  # as it was read, with a change

    def send(key: str) -> httpx.Response:
        return worker("PUT", "/api/task-executions", edit, **{"Idempotency-Key": key})  # type: ignore[return-value]

    first, again, another = send("a"), send("a"), send("b")
    assert (first.status_code, again.content) == (200, first.content)
    assert another.status_code == 409
    assert "Retry-After" not in another.headers


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_a_key_has_1_to_255_characters(worker: Api, execution: FlowExecution, key: str) -> None:
    assert report(worker, execution, key).status_code == 422
    assert report(worker, execution, "x" * 255).status_code == 200


def test_a_refused_batch_uses_no_key_up(worker: Api, execution: FlowExecution) -> None:
    path = f"/api/flow-executions/{execution.pk}/task-status"
    wrong = worker.post(path, statuses(("nope", "running")), **{"Idempotency-Key": "a"})
    assert wrong.status_code == 400
    assert report(worker, execution, "a").status_code == 200


def test_a_tag_batch_replays_its_outcomes(worker: Api, execution: FlowExecution) -> None:
    tag = {"flow_execution_id": str(execution.pk), "task_name": "extract", "tag": "approved", "tag_type": "review"}
    body = {"tags": [{"operation": "add", **tag}]}
    answers = [worker("PATCH", "/api/task-tags", body, **{"Idempotency-Key": "t"}).content for _ in range(2)]
    assert answers[0] == answers[1] == b'{"tags":[{"status":"added"}]}'
    assert TaskTag.objects.filter(flow_execution=execution).count() == 1


def test_organizations_do_not_share_keys(worker: Api, execution: FlowExecution) -> None:
    other = make_organization()
    foreign = make_execution(make_flow(other))
    assert report(worker, execution, "same").status_code == 200
    assert report(Api(make_token(other)), foreign, "same").status_code == 200


def test_after_24_hours_a_key_is_new_and_beat_removes_it(worker: Api, execution: FlowExecution) -> None:
    report(worker, execution, "a")
    (key,) = IdempotencyKey.objects.all()
    assert timedelta(hours=23) < key.expires_at - timezone.now() <= timedelta(hours=24)
    IdempotencyKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert report(worker, execution, "a", status="completed").status_code == 200
    assert prune_keys() == 0
    IdempotencyKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert prune_keys() == 1


@pytest.mark.usefixtures("committed")
def test_while_the_first_is_running_the_second_is_409_and_then_it_replays(platform: Platform) -> None:
    organization = make_organization(f"twice-{uuid4().hex}")
    execution = make_execution(make_flow(organization))
    client = httpx.Client(
        base_url=platform.url,
        headers={"Authorization": f"Bearer {make_token(organization)}", "Idempotency-Key": "k"},
    )
    path, body = f"/api/flow-executions/{execution.pk}/task-status", statuses(("extract", "running"))
    running, finish = threading.Event(), threading.Event()

    def hold(write: Callable[[], bytes]) -> None:
        with transaction.atomic():
            key = RequestKey.of(owner=str(organization.pk), key="k", method="POST", path=path, body=body)
            once(key, write)
        connection.close()

    def slow() -> bytes:
        running.set()
        assert finish.wait(10)
        return b"[]"

    first = threading.Thread(target=hold, args=(slow,))
    first.start()
    assert running.wait(10)
    busy = client.post(path, json=body)
    assert (busy.status_code, busy.json()["error"]["code"]) == (409, "conflict")
    assert busy.headers["Retry-After"] == "1"
    finish.set()
    first.join()
    assert client.post(path, json=body).json() == []
    assert not TaskStatus.objects.filter(flow_execution=execution).exists()


@pytest.mark.usefixtures("committed")
def test_a_first_request_that_ends_between_a_look_and_a_write_is_replayed(platform: Platform) -> None:
    """The key is kept by somebody who does not hold its lock any more, and whom the statement cannot see yet."""
    organization = make_organization(f"between-{uuid4().hex}")
    execution = make_execution(make_flow(organization))
    path, body = f"/api/flow-executions/{execution.pk}/task-status", statuses(("extract", "running"))
    key = RequestKey.of(owner=str(organization.pk), key="k", method="POST", path=path, body=body)
    headers = {"Authorization": f"Bearer {make_token(organization)}", "Idempotency-Key": "k"}
    answers: list[httpx.Response] = []
    second = threading.Thread(
        target=lambda: answers.append(httpx.post(f"{platform.url}{path}", json=body, headers=headers))
    )
    with transaction.atomic():
        expires = timezone.now() + timedelta(hours=1)
        IdempotencyKey.objects.create(owner=key.owner, key="k", digest=key.digest, answer=b"[]", expires_at=expires)
        second.start()
        wait_until(_somebody_waits_for_us, what="the second request")
    second.join()
    assert (answers[0].status_code, answers[0].content) == (200, b"[]")
    assert not TaskStatus.objects.filter(flow_execution=execution).exists()


def _somebody_waits_for_us() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE pg_backend_pid() = ANY(pg_blocking_pids(pid)))")
        return bool(cursor.fetchone()[0])


@pytest.mark.usefixtures("committed")
def test_of_many_at_the_same_moment_one_writes_and_the_others_wait_or_replay(platform: Platform) -> None:
    organization = make_organization(f"at-once-{uuid4().hex}")
    execution = make_execution(make_flow(organization))
    path = f"{platform.url}/api/flow-executions/{execution.pk}/task-status"
    headers = {"Authorization": f"Bearer {make_token(organization)}"}
    keys = [str(number) for number in range(40)]
    answers: dict[str, set[bytes]] = {key: set() for key in keys}
    start = threading.Barrier(4)

    def ask() -> None:
        start.wait(10)
        with httpx.Client(headers=headers) as client:
            for key in keys:
                answer = client.post(path, json=statuses(("extract", key)), headers={"Idempotency-Key": key})
                if answer.status_code == 200:
                    answers[key].add(answer.content)
                else:
                    assert (answer.status_code, answer.headers["Retry-After"]) == (409, "1"), answer.text

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {len(seen) for seen in answers.values()} == {1}
    written = TaskStatus.objects.filter(flow_execution=execution).order_by("position")
    assert sorted(written.values_list("status", flat=True)) == sorted(keys)


def test_errors_keep_their_shape(worker: Api, execution: FlowExecution) -> None:
    response = Api().post(f"/api/flow-executions/{execution.pk}/task-status", {}, **{"Idempotency-Key": "a"})
    assert (response.status_code, error_of(response)["code"]) == (401, "unauthenticated")
