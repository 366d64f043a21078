"""Workers report task statuses: history, derived state and one event, all or nothing."""

from datetime import timedelta
from uuid import uuid4

import orjson
import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from executions.models import FlowExecution, TaskOutput, TaskStatus
from flowplatform.accounts.models import Organization, ServiceToken
from notifications.models import Event
from tests.builders import (
    Api,
    error_of,
    make_execution,
    make_flow,
    make_member,
    make_organization,
    make_token,
    statuses,
    without_id,
)


@pytest.fixture
def execution(organization: Organization) -> FlowExecution:
    return make_execution(make_flow(organization, "extract", "classify", *(f"page-{i}" for i in range(100))))


@pytest.fixture
def worker(organization: Organization) -> Api:
    return Api(make_token(organization, ["status:write", "read"]))


def path_of(execution: FlowExecution) -> str:
    return f"/api/flow-executions/{execution.pk}/task-status"


def test_a_batch_answers_its_updates_in_request_order(execution: FlowExecution, worker: Api) -> None:
    response = worker.post(path_of(execution), statuses(("extract", "running"), ("classify", "queued")))
    assert response.status_code == 200
    answer = response.json()
    assert [(row["task_name"], row["status"]) for row in answer] == [("extract", "running"), ("classify", "queued")]
    for row in answer:
        assert set(row) == {"id", "flow_execution_id", "task_name", "status", "created_at", "organization_id"}
        assert row["flow_execution_id"] == str(execution.pk)
        assert row["organization_id"] == str(execution.organization_id)
        assert row["created_at"].endswith("Z")


def test_two_updates_of_one_task_make_two_rows_in_order_and_the_later_one_is_the_state(
    execution: FlowExecution, worker: Api
) -> None:
    worker.post(path_of(execution), statuses(("extract", "running"), ("classify", "queued"), ("extract", "completed")))
    history = TaskStatus.objects.filter(flow_execution=execution, task_name="extract").order_by("position")
    assert [row.status for row in history] == ["running", "completed"]
    assert TaskOutput.objects.get(flow_execution=execution, task_name="extract").processing_status == "completed"


def test_any_text_is_a_status_and_any_transition_is_allowed(execution: FlowExecution, worker: Api) -> None:
    for status in ("completed", "queued", "ждёт 🕰", "x" * 50):
        assert worker.post(path_of(execution), statuses(("extract", status))).status_code == 200
        assert TaskOutput.objects.get(flow_execution=execution).processing_status == status


def test_the_status_of_the_execution_is_not_touched(execution: FlowExecution, worker: Api) -> None:
    before = FlowExecution.objects.values().get(pk=execution.pk)
    worker.post(path_of(execution), statuses(("extract", "failed")))
    assert FlowExecution.objects.values().get(pk=execution.pk) == before


def test_a_batch_publishes_one_event_with_the_answer_as_its_data(execution: FlowExecution, worker: Api) -> None:
    answer = worker.post(path_of(execution), statuses(("extract", "running"), ("classify", "queued"))).json()
    event = Event.objects.get(flow_execution_id=execution.pk, type="task_status.added")
    assert event.data == {"statuses": answer}


@pytest.mark.parametrize("known_before", [False, True])
def test_one_and_a_hundred_updates_cost_the_same_number_of_statements(
    execution: FlowExecution, worker: Api, known_before: bool
) -> None:
    def statements(count: int) -> int:
        batch = statuses(*((f"page-{index}", "running") for index in range(count)))
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert worker.post(path_of(execution), batch).status_code == 200
        return len(captured)

    worker.post(path_of(execution), statuses(("extract", "running")))  # what is remembered is remembered now
    if known_before:
        statements(100)
    assert statements(1) == statements(100)


def test_an_unknown_task_name_refuses_the_whole_batch_and_names_its_place(
    execution: FlowExecution, worker: Api
) -> None:
    response = worker.post(path_of(execution), statuses(("extract", "running"), ("nope", "x"), ("Extract", "x")))
    assert response.status_code == 400
    error = error_of(response)
    assert error["code"] == "bad_request"
    assert error["details"] == [{"index": 1, "task_name": "nope"}, {"index": 2, "task_name": "Extract"}]
    assert not TaskStatus.objects.filter(flow_execution=execution).exists()
    assert not TaskOutput.objects.filter(flow_execution=execution).exists()
    assert not Event.objects.filter(type="task_status.added", flow_execution_id=execution.pk).exists()


def test_a_missing_a_foreign_and_a_deleted_execution_are_the_same_404(
    execution: FlowExecution, worker: Api, stranger: Api
) -> None:
    batch = statuses(("extract", "running"))
    missing = worker.post(f"/api/flow-executions/{uuid4()}/task-status", batch)
    foreign = stranger.post(path_of(execution), batch)
    worker.post(path_of(execution), batch)  # the worker knows the execution from now on
    FlowExecution.objects.filter(pk=execution.pk).update(status="deleted")
    deleted = worker.post(path_of(execution), batch)
    assert [answer.status_code for answer in (missing, foreign, deleted)] == [404, 404, 404]
    assert without_id(missing) == without_id(foreign) == without_id(deleted)
    assert error_of(missing)["code"] == "not_found"
    assert TaskStatus.objects.filter(flow_execution=execution).count() == 1


def test_a_system_token_reports_for_every_organization(execution: FlowExecution) -> None:
    system = Api(make_token(None, ["status:write"]))
    assert system.post(path_of(execution), statuses(("extract", "running"))).status_code == 200


@pytest.mark.parametrize("role", ["viewer", "member", "admin"])
def test_people_cannot_report_statuses(execution: FlowExecution, organization: Organization, role: str) -> None:
    response = Api(user=make_member(organization, role)).post(path_of(execution), statuses(("extract", "running")))
    assert (response.status_code, error_of(response)["code"]) == (403, "forbidden")


def test_a_token_without_the_scope_cannot_report_statuses(execution: FlowExecution, organization: Organization) -> None:
    token = make_token(organization, ["read", "tags:write", "executions:write"])
    assert Api(token).post(path_of(execution), statuses(("extract", "running"))).status_code == 403


@pytest.mark.parametrize("end", ["revoked", "expired", "account deleted"])
@pytest.mark.parametrize("task_name", ["extract", "unknown", ""])
def test_a_token_that_ends_between_two_batches_is_401_for_the_second_whatever_is_in_it(
    execution: FlowExecution, organization: Organization, end: str, task_name: str
) -> None:
    raw = make_token(organization)
    key = {"Idempotency-Key": "the same"}
    first = Api(raw).post(path_of(execution), statuses(("extract", "running")), **key)
    assert first.status_code == 200
    token = ServiceToken.objects.get(prefix=raw[:8])
    if end == "revoked":
        token.revoke()
    elif end == "expired":
        ServiceToken.objects.filter(pk=token.pk).update(expiry_date=timezone.now() - timedelta(seconds=1))
    else:
        token.service_account.delete()
    for headers in ({}, key):
        second = Api(raw).post(path_of(execution), statuses((task_name, "running")), **headers)
        assert (second.status_code, error_of(second)["code"]) == (401, "unauthenticated")
        assert second["WWW-Authenticate"] == "Bearer"
    assert TaskStatus.objects.filter(flow_execution=execution).count() == 1


def test_a_batch_is_one_statement(execution: FlowExecution, worker: Api) -> None:
    batch = statuses(*((f"page-{i}", "running") for i in range(100)))
    worker.post(path_of(execution), batch)  # the token and the version are known now
    with CaptureQueriesContext(connection) as queries:
        assert worker.post(path_of(execution), batch).status_code == 200
    assert len(queries) == 1


def test_every_bad_credential_is_the_same_401(execution: FlowExecution, organization: Organization) -> None:
    revoked, expired = make_token(organization), make_token(organization, expires_in=timedelta(days=1))
    ServiceToken.objects.get(prefix=revoked[:8]).revoke()
    ServiceToken.objects.filter(prefix=expired[:8]).update(expiry_date=timezone.now() - timedelta(seconds=1))
    good = make_token(organization)
    other_end = "y" if good.endswith("x") else "x"
    headers = [
        {},
        {"Authorization": f"Bearer {revoked}"},
        {"Authorization": f"Bearer {expired}"},
        {"Authorization": f"Bearer {good[:-1]}{other_end}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer \x00\xff"},
        {"Authorization": f"Basic {good}"},
        {"Authorization": f"bearer {'a' * 5000}"},
        {"X-API-Key": "nonsense"},
        {"X-API-Key": ""},
    ]
    answers = [Api().post(path_of(execution), statuses(("extract", "running")), **header) for header in headers]
    assert {answer.status_code for answer in answers} == {401}
    assert {answer["WWW-Authenticate"] for answer in answers} == {"Bearer"}
    assert len({without_id(answer) for answer in answers}) == 1
    assert error_of(answers[0])["code"] == "unauthenticated"


def test_the_token_may_come_as_an_api_key(execution: FlowExecution, organization: Organization) -> None:
    header = {"X-API-Key": make_token(organization)}
    assert Api().post(path_of(execution), statuses(("extract", "running")), **header).status_code == 200


def item(**changes: object) -> dict[str, object]:
    return {"task_name": "extract", "status": "running", **changes}


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"statuses": []}, ["body", "statuses"]),
        ({"statuses": [item()] * 101}, ["body", "statuses"]),
        ({}, ["body", "statuses"]),
        ([], ["body"]),
        ("text", ["body"]),
        ({"statuses": [item()], "more": 1}, ["body", "more"]),
        ({"statuses": [item(), item(status=1)]}, ["body", "statuses", 1, "status"]),
        ({"statuses": [item(status="")]}, ["body", "statuses", 0, "status"]),
        ({"statuses": [item(status="x" * 51)]}, ["body", "statuses", 0, "status"]),
        ({"statuses": [item(task_name="x" * 256)]}, ["body", "statuses", 0, "task_name"]),
        ({"statuses": [item(status="a\0b")]}, ["body", "statuses", 0, "status"]),
        ({"statuses": [item(extra=True)]}, ["body", "statuses", 0, "extra"]),
        ({"statuses": [{"task_name": "extract"}]}, ["body", "statuses", 0, "status"]),
    ],
)
def test_a_body_that_does_not_fit_is_422_and_names_the_place(
    execution: FlowExecution, worker: Api, body: object, loc: list[object]
) -> None:
    response = worker.post(path_of(execution), body)
    assert response.status_code == 422
    assert [set(problem) for problem in response.json()["detail"]] == [{"loc", "msg", "type"}]
    assert response.json()["detail"][0]["loc"] == loc
    assert not TaskStatus.objects.filter(flow_execution=execution).exists()


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"\xff\xfe", b'{"statuses": NaN}', b'{"statuses": [1e400]}', rb'["\ud800"]', b"[" * 2000, b"\0"],
)
def test_a_body_that_is_not_json_is_400(execution: FlowExecution, worker: Api, body: bytes) -> None:
    response = worker("POST", path_of(execution), body)
    assert (response.status_code, error_of(response)["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    "status",
    ['"', "\\", '","', "{}", "NULL", "null", "a,b", "\\u0000", "\\N", " padded ", "\t\n", "é€😀", "'", "%s", "$1"],
)
def test_a_status_may_be_any_text(execution: FlowExecution, worker: Api, status: str) -> None:
    answer = worker.post(path_of(execution), statuses(("extract", status), ("classify", "plain")))
    assert [row["status"] for row in answer.json()] == [status, "plain"]
    assert TaskOutput.objects.get(flow_execution=execution, task_name="extract").processing_status == status


def test_json_nested_deeper_than_16_levels_is_422(execution: FlowExecution, worker: Api) -> None:
    deep: object = "x"
    for _ in range(17):
        deep = [deep]
    response = worker.post(path_of(execution), {"statuses": deep})
    assert (response.status_code, response.json()["detail"][0]["type"]) == (422, "too_deep")


def test_a_body_over_1_mib_is_413_and_another_content_type_415(execution: FlowExecution, worker: Api) -> None:
    large = worker("POST", path_of(execution), orjson.dumps({"statuses": "x" * 1024 * 1024}))
    assert (large.status_code, error_of(large)["code"]) == (413, "payload_too_large")
    form = worker("POST", path_of(execution), b"a=b", content_type="application/x-www-form-urlencoded")
    assert (form.status_code, error_of(form)["code"]) == (415, "unsupported_media_type")


def test_a_path_that_is_no_uuid_is_422(worker: Api) -> None:
    response = worker.post("/api/flow-executions/nonsense/task-status", statuses(("extract", "running")))
    assert response.status_code == 422
    assert response.json()["detail"][0]["loc"] == ["path", "flow_execution_id"]


def test_a_well_formed_request_id_is_kept_and_any_other_replaced(execution: FlowExecution, worker: Api) -> None:
    known = "01M80P0DMN8EFE6B7ZDD4C8HC8"
    assert worker.get(path_of(execution), **{"X-Request-ID": known})["X-Request-ID"] == known
    assert worker.get(path_of(execution), **{"X-Request-ID": "<script>"})["X-Request-ID"] != "<script>"


def test_the_history_is_newest_first_and_pages_without_loss(execution: FlowExecution, worker: Api) -> None:
    for index in range(7):
        worker.post(path_of(execution), statuses(("extract", f"step {index}"), ("classify", f"step {index}")))
    seen, cursor = [], ""
    while True:
        page = worker.get(f"{path_of(execution)}?task_name=extract&limit=3&cursor={cursor}").json()
        seen += [row["status"] for row in page["statuses"]]
        if cursor == "":  # rows that are added meanwhile do not shift the pages
            worker.post(path_of(execution), statuses(("extract", "late")))
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"step {index}" for index in reversed(range(7))]
    assert len(worker.get(path_of(execution)).json()["statuses"]) == 15


@pytest.mark.parametrize(
    ("cursor", "status"), [("garbage", 400), ("WzFd:1xUyaj:NNFt", 400), ("é", 400), ("%00", 422), ("x" * 300, 422)]
)
def test_a_cursor_that_we_did_not_give_out_is_refused(
    execution: FlowExecution, worker: Api, cursor: str, status: int
) -> None:
    assert worker.get(f"{path_of(execution)}?cursor={cursor}").status_code == status


def test_a_cursor_of_another_list_is_400(execution: FlowExecution, worker: Api) -> None:
    worker.post(path_of(execution), statuses(("extract", "running"), ("classify", "running")))
    cursor = worker.get(f"{path_of(execution)}?limit=1").json()["next_cursor"]
    response = worker.get(f"/api/task-outputs?flow_execution_id={execution.pk}&cursor={cursor}")
    assert (response.status_code, error_of(response)["code"]) == (400, "bad_request")


def test_the_history_of_a_stranger_is_404(execution: FlowExecution, worker: Api, stranger: Api) -> None:
    missing = worker.get(f"/api/flow-executions/{uuid4()}/task-status")
    assert without_id(stranger.get(path_of(execution))) == without_id(missing)
    assert missing.status_code == 404


def test_the_history_cannot_be_changed_in_the_database(execution: FlowExecution, worker: Api) -> None:
    worker.post(path_of(execution), statuses(("extract", "running")))
    with pytest.raises(DatabaseError, match="permission denied"), transaction.atomic():
        TaskStatus.objects.filter(flow_execution=execution).update(status="completed")


def test_task_outputs_show_the_state_of_every_task_that_reported(
    execution: FlowExecution, worker: Api, stranger: Api
) -> None:
    worker.post(path_of(execution), statuses(("extract", "completed"), ("classify", "running")))
    listed = worker.get(f"/api/task-outputs?flow_execution_id={execution.pk}").json()
    assert listed["next_cursor"] is None
    assert {row["task_name"]: row["processing_status"] for row in listed["task_outputs"]} == {
        "extract": "completed",
        "classify": "running",
    }
    one = listed["task_outputs"][0]
    assert one["flow_version"] == 1
    assert worker.get(f"/api/task-outputs/{one['id']}").json() == one
    assert worker.get(f"/api/task-outputs?flow_execution_id={execution.pk}&task_name=nope").json() == {
        "task_outputs": [],
        "next_cursor": None,
    }
    missing = worker.get(f"/api/task-outputs/{uuid4()}")
    assert missing.status_code == 404
    assert without_id(stranger.get(f"/api/task-outputs/{one['id']}")) == without_id(missing)
    assert stranger.get(f"/api/task-outputs?flow_execution_id={execution.pk}").status_code == 404


def test_outputs_and_history_of_a_deleted_execution_are_gone(execution: FlowExecution, worker: Api) -> None:
    worker.post(path_of(execution), statuses(("extract", "completed")))
    output = worker.get(f"/api/task-outputs?flow_execution_id={execution.pk}").json()["task_outputs"][0]
    FlowExecution.objects.filter(pk=execution.pk).update(status="deleted")
    for path in (f"/api/task-outputs/{output['id']}", f"/api/task-outputs?flow_execution_id={execution.pk}"):
        assert worker.get(path).status_code == 404
    assert worker.get(path_of(execution)).status_code == 404


def test_a_token_without_the_scope_read_may_report_but_not_look(
    execution: FlowExecution, organization: Organization
) -> None:
    blind = Api(make_token(organization, ["status:write"]))
    assert blind.post(path_of(execution), statuses(("extract", "running"))).status_code == 200
    assert blind.get(path_of(execution)).status_code == 403


def test_other_organizations_are_never_named(execution: FlowExecution) -> None:
    nosy = Api(make_token(make_organization(), ["read"]))
    assert execution.pk.hex not in nosy.get("/api/flows").content.decode()
    assert nosy.get("/api/flows").json() == []
