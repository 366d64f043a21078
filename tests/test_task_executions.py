"""Attempts of tasks: workers report them, people edit them, and what an edit makes stale can run again."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test.utils import CaptureQueriesContext

from executions.models import FlowExecution, TaskExecution, TaskOutput, TaskStatus
from executions.services import delete_execution
from flowplatform.accounts.models import Organization
from notifications.models import Event
from tests.builders import (
    Api,
    error_of,
    make_actor,
    make_execution,
    make_flow_of,
    make_member,
    make_organization,
    make_token,
    statuses,
    without_id,
)

PATH = "/api/task-executions"
FIELDS = {
    "id",
    "flow_execution_id",
    "task_execution_idx",
    "task_name",
    "created_at",
    "updated_at",
    "modified_by",
    "processing_status",
    "edited_status",
    "stale_status",
    "input",
    "output",
    "error",
    "organization_id",
    "started_at",
    "completed_at",
}


@pytest.fixture
def execution(organization: Organization) -> FlowExecution:
    """scan -> (extract -> classify -> report), archive; audit stands alone."""
    flow = make_flow_of(
        organization,
        scan=[],
        extract=["scan"],
        archive=["scan"],
        classify=["extract"],
        report=["classify", "extract"],
        audit=[],
    )
    return make_execution(flow)


@pytest.fixture
def worker(organization: Organization) -> Api:
    return Api(make_token(organization))


@pytest.fixture
def editor(organization: Organization) -> Api:
    return Api(user=make_member(organization, "member", username="rita"))


def attempt(execution: FlowExecution, task_name: str = "extract", idx: int = 0, **fields: Any) -> dict[str, Any]:
    """Return the body of a report."""
    told = {"processing_status": "completed", **fields}
    return {"flow_execution_id": str(execution.pk), "task_name": task_name, "task_execution_idx": idx, **told}


def report(api: Api, execution: FlowExecution, task_name: str = "extract", idx: int = 0, **fields: Any) -> Any:
    response = api.post(PATH, attempt(execution, task_name, idx, **fields))
    assert response.status_code == 201, response.content
    return response.json()  # type: ignore[attr-defined]


def edit(api: Api, body: dict[str, Any], query: str = "", **changes: Any) -> HttpResponse:
    return api("PUT", f"{PATH}{query}", {**body, **changes})


def edited(api: Api, body: dict[str, Any], query: str = "", **changes: Any) -> Any:
    response = edit(api, body, query, **changes)
    assert response.status_code == 200, response.content
    return response.json()  # type: ignore[attr-defined]


def run_all(api: Api, execution: FlowExecution) -> None:
    """Have every task report one completed attempt."""
    for name in ("scan", "extract", "archive", "classify", "report", "audit"):
        report(api, execution, name, output={"from": name})


def output_of(execution: FlowExecution, task_name: str = "extract") -> TaskOutput:
    row: TaskOutput = TaskOutput.objects.get(flow_execution=execution, task_name=task_name)
    return row


def stale_tasks(execution: FlowExecution) -> tuple[set[str], set[str]]:
    """Return the names of stale attempts and of stale outputs."""
    attempts = TaskExecution.objects.filter(flow_execution=execution, stale_status="stale")
    outputs = TaskOutput.objects.filter(flow_execution=execution, stale_status="stale")
    return set(attempts.values_list("task_name", flat=True)), set(outputs.values_list("task_name", flat=True))


def events_of(execution: FlowExecution, type_: str) -> list[dict[str, Any]]:
    return list(
        Event.objects.filter(flow_execution_id=execution.pk, type=type_).order_by("id").values_list("data", flat=True)
    )


# --- Reporting ----------------------------------------------------------------------------------------------------


def test_a_reported_attempt_is_the_object_of_the_contract(execution: FlowExecution, worker: Api) -> None:
    told = {
        "input": {"pages": [1, 2]},
        "output": {"text": "…"},
        "error": None,
        "started_at": "2026-11-22T08:00:00.000001Z",
        "completed_at": "2026-11-22T09:00:01+01:00",
    }
    answer = report(worker, execution, **told)
    assert set(answer) == FIELDS | {"tags"}
    assert {name: answer[name] for name in ("input", "output", "error", "started_at")} == {
        name: told[name] for name in ("input", "output", "error", "started_at")
    }
    assert answer["completed_at"] == "2026-11-22T08:00:01Z"
    assert (answer["edited_status"], answer["stale_status"]) == ("not_edited", "consistent")
    assert answer["organization_id"] == str(execution.organization_id)
    assert answer["modified_by"].startswith("service:")
    assert worker.get(f"{PATH}/{answer['id']}").json() == answer  # type: ignore[attr-defined]


def test_the_same_report_again_makes_the_same_attempt(execution: FlowExecution, worker: Api) -> None:
    first, second = report(worker, execution, output=[1]), report(worker, execution, output=[1])
    assert first["id"] == second["id"]
    assert first["created_at"] == second["created_at"]
    assert first["updated_at"] < second["updated_at"]
    assert TaskExecution.objects.filter(flow_execution=execution).count() == 1


def test_a_number_of_an_attempt_may_be_written_as_a_double(execution: FlowExecution, worker: Api) -> None:
    assert report(worker, execution, idx=1.0)["task_execution_idx"] == 1  # type: ignore[arg-type]
    assert worker.post(PATH, attempt(execution, idx=1.5)).status_code == 422  # type: ignore[arg-type]


def test_what_a_report_leaves_out_stays_and_null_empties(execution: FlowExecution, worker: Api) -> None:
    report(worker, execution, processing_status="running", input={"a": 1}, started_at="2026-11-22T08:00:00Z")
    second = report(worker, execution, output="done")
    assert (second["processing_status"], second["input"], second["output"]) == ("completed", {"a": 1}, "done")
    assert second["started_at"] == "2026-11-22T08:00:00Z"
    assert report(worker, execution, input=None)["input"] is None


def test_the_task_output_follows_the_newest_attempt(execution: FlowExecution, worker: Api) -> None:
    report(worker, execution, idx=1, processing_status="completed", output="second", error=None)
    report(worker, execution, idx=0, processing_status="failed", output="first", error={"message": "late report"})
    row = output_of(execution)
    assert (row.processing_status, row.output, row.error) == ("completed", "second", None)
    report(worker, execution, idx=2, processing_status="running")
    row = output_of(execution)
    assert (row.processing_status, row.output) == ("running", "second")  # what is there stands until there is more


def test_where_a_task_reports_statuses_they_decide_its_state(execution: FlowExecution, worker: Api) -> None:
    worker.post(f"/api/flow-executions/{execution.pk}/task-status", statuses(("extract", "running")))
    report(worker, execution, processing_status="completed", output=1)
    row = output_of(execution)
    assert (row.processing_status, row.output) == ("running", 1)
    assert TaskStatus.objects.filter(flow_execution=execution).count() == 1


def test_a_report_is_told_in_two_events_that_hold_the_objects(execution: FlowExecution, worker: Api) -> None:
    answer = report(worker, execution, output={"n": 1})
    assert events_of(execution, "task_execution.updated") == [answer]
    (output,) = events_of(execution, "task_output.updated")
    assert output == worker.get(f"/api/task-outputs/{output['id']}").json()  # type: ignore[attr-defined]


@pytest.mark.parametrize("time", ["0001-01-01T00:00:00Z", "2026-11-22T08:00:00.5+02:00", "9999-12-31T23:59:59.999999Z"])
def test_events_say_exactly_what_the_answers_say(execution: FlowExecution, worker: Api, time: str) -> None:
    values = ['quote " and \\ and 🕰', 1e22, 2**63, 0.1, 1e308, {"": None}]
    answer = report(worker, execution, input=values, error=values, started_at=time, completed_at=time)
    assert events_of(execution, "task_execution.updated") == [answer]
    assert answer["created_at"] == answer["updated_at"]


def test_live_tags_of_the_task_are_shown_everywhere(execution: FlowExecution, worker: Api) -> None:
    task = {"flow_execution_id": str(execution.pk), "task_name": "extract", "tag_type": "review"}
    operations = [{"operation": "add", "tag": tag, **task} for tag in ("approved", "urgent")]
    worker("PATCH", "/api/task-tags", {"tags": [*operations, {"operation": "remove", "tag": "urgent", **task}]})
    answer = report(worker, execution)
    assert [tag["tag"] for tag in answer["tags"]] == ["approved"]
    (listed,) = worker.get(f"{PATH}?flow_execution_id={execution.pk}").json()["task_executions"]  # type: ignore[attr-defined]
    assert listed == answer == worker.get(f"{PATH}/{answer['id']}").json()  # type: ignore[attr-defined]


def test_a_task_that_the_version_does_not_define_is_refused(execution: FlowExecution, worker: Api) -> None:
    for path in (PATH, "/api/task-outputs"):
        body = attempt(execution, "typo") if path == PATH else output_body(execution, "typo", summary=1)
        response = worker.post(path, body)
        assert response.status_code == 400
        assert error_of(response)["details"] == [{"index": 0, "task_name": "typo"}]
    assert not TaskOutput.objects.filter(flow_execution=execution).exists()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("task_name", ""),
        ("task_name", "x" * 201),
        ("task_execution_idx", -1),
        ("task_execution_idx", 2**31),
        ("task_execution_idx", "0"),
        ("task_execution_idx", True),
        ("processing_status", ""),
        ("processing_status", "x" * 51),
        ("started_at", 1700000000),
        ("started_at", "1700000000"),
        ("started_at", "yesterday"),
        ("flow_execution_id", "x"),
        ("retries", 3),
    ],
)
def test_a_report_that_does_not_fit_is_refused_by_its_place(
    execution: FlowExecution, worker: Api, field: str, value: object
) -> None:
    response = worker.post(PATH, {**attempt(execution), field: value})
    assert response.status_code == 422
    assert [problem["loc"] for problem in response.json()["detail"]] == [["body", field]]  # type: ignore[attr-defined]
    assert not TaskExecution.objects.filter(flow_execution=execution).exists()


@pytest.mark.parametrize("path", [PATH, "/api/task-outputs"])
def test_only_a_token_with_the_scope_may_report(
    execution: FlowExecution, organization: Organization, path: str
) -> None:
    body = attempt(execution) if path == PATH else output_body(execution, summary=1)
    admin = Api(user=make_member(organization, "admin"))
    others = Api(make_token(organization, ["status:write", "tags:write", "read"]))
    assert [api.post(path, body).status_code for api in (Api(), admin, others)] == [401, 403, 403]
    assert Api(make_token(organization, ["executions:write"])).post(path, body).status_code == 201


def test_strangers_missing_and_deleted_executions_are_the_same_404(
    execution: FlowExecution, organization: Organization, worker: Api, stranger: Api
) -> None:
    known = report(worker, execution)
    output = output_of(execution)
    missing = {**attempt(execution), "flow_execution_id": str(uuid4())}
    answers = [worker.post(PATH, missing), stranger.post(PATH, attempt(execution))]
    answers += [
        stranger.post("/api/task-outputs", output_body(execution, summary=1)),
        stranger.get(f"{PATH}?flow_execution_id={execution.pk}"),
        stranger.get(f"{PATH}/{known['id']}"),
        worker.get(f"{PATH}/{uuid4()}"),
        edit(stranger, known),
        edit(worker, {**known, "id": str(uuid4())}),
        stranger.post(f"/api/flow-executions/{execution.pk}/execute", None),
        worker.post(f"/api/flow-executions/{uuid4()}/execute", None),
    ]
    delete_execution(actor=make_actor(organization), execution_id=execution.pk)
    answers += [
        worker.post(PATH, attempt(execution)),
        worker.post("/api/task-outputs", output_body(execution, summary=1)),
        worker.get(f"{PATH}?flow_execution_id={execution.pk}"),
        worker.get(f"{PATH}/{known['id']}"),
        worker.get(f"/api/task-outputs/{output.pk}"),
        edit(worker, known),
        edit(worker, known, "?execute_flow=true"),
        worker.post(f"/api/flow-executions/{execution.pk}/execute", None),
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({without_id(answer) for answer in answers}) == 1


# --- The list -----------------------------------------------------------------------------------------------------


def names(response: HttpResponse) -> list[tuple[str, int]]:
    assert response.status_code == 200, response.content
    rows = response.json()["task_executions"]  # type: ignore[attr-defined]
    return [(row["task_name"], row["task_execution_idx"]) for row in rows]


def test_the_list_is_newest_first_and_narrows_by_task_and_number(execution: FlowExecution, worker: Api) -> None:
    for name, idx in (("extract", 0), ("scan", 0), ("extract", 1)):
        report(worker, execution, name, idx)
    address = f"{PATH}?flow_execution_id={execution.pk}"
    assert names(worker.get(address)) == [("extract", 1), ("scan", 0), ("extract", 0)]
    assert names(worker.get(f"{address}&task_name=extract")) == [("extract", 1), ("extract", 0)]
    assert names(worker.get(f"{address}&task_name=extract&task_execution_idx=0")) == [("extract", 0)]
    assert names(worker.get(f"{address}&task_execution_idx=0")) == [("scan", 0), ("extract", 0)]
    assert names(worker.get(f"{address}&task_name=nobody")) == []
    assert worker.get(PATH).status_code == 422


def test_a_cursor_reads_on_while_attempts_are_added_and_fits_only_its_own_list(
    execution: FlowExecution, worker: Api
) -> None:
    for idx in range(5):
        report(worker, execution, idx=idx)
    address = f"{PATH}?flow_execution_id={execution.pk}&limit=2"
    found, cursor = [], ""
    while cursor is not None:
        response = worker.get(f"{address}&cursor={cursor}" if cursor else address)
        found += [idx for _, idx in names(response)]
        cursor = response.json()["next_cursor"]  # type: ignore[attr-defined]
        report(worker, execution, "scan", idx=len(found))
    assert found == [4, 3, 2, 1, 0]
    other = worker.get(f"{address}").json()["next_cursor"]  # type: ignore[attr-defined]
    outputs = f"/api/task-outputs?flow_execution_id={execution.pk}&cursor={other}"
    assert [worker.get(path).status_code for path in (outputs, f"{address}&cursor=garbage")] == [400, 400]


@pytest.mark.django_db
def test_a_list_of_a_thousand_with_tags_takes_as_many_queries_as_one_of_ten(organization: Organization) -> None:
    tasks = [f"task-{index}" for index in range(1000)]
    execution = make_execution(make_flow_of(organization, **{name: [] for name in tasks}))
    api = Api(make_token(organization))
    now = execution.created_at
    TaskExecution.objects.bulk_create(
        TaskExecution(
            organization_id=organization.pk,
            flow_execution=execution,
            task_name=name,
            task_execution_idx=0,
            processing_status="completed",
            created_at=now,
            updated_at=now,
            modified_by="test",
        )
        for name in tasks
    )
    for begin in range(0, 1000, 100):
        body = [
            {
                "operation": "add",
                "flow_execution_id": str(execution.pk),
                "task_name": name,
                "tag": "approved",
                "tag_type": "review",
            }
            for name in tasks[begin : begin + 100]
        ]
        assert api("PATCH", "/api/task-tags", {"tags": body}).status_code == 200
    counts = []
    for limit in (10, 1000):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            rows = api.get(f"{PATH}?flow_execution_id={execution.pk}&limit={limit}").json()["task_executions"]  # type: ignore[attr-defined]
        assert [len(row["tags"]) for row in rows] == [1] * limit
        counts.append(len(queries))
    assert counts[0] == counts[1]


# --- Editing ------------------------------------------------------------------------------------------------------


def test_an_edit_is_kept_with_who_made_it_and_shows_in_the_output(
    execution: FlowExecution, worker: Api, editor: Api
) -> None:
    known = report(worker, execution, output={"total": 1})
    answer = edited(editor, known, output={"total": 2})
    assert (answer["output"], answer["edited_status"], answer["modified_by"]) == (
        {"total": 2},
        "edited_not_reexecuted",
        "user:rita",
    )
    assert answer["updated_at"] > known["updated_at"]
    assert answer["created_at"] == known["created_at"]
    row = output_of(execution)
    assert (row.output, row.edited_status, row.modified_by) == ({"total": 2}, "edited_not_reexecuted", "user:rita")
    assert editor.get(f"{PATH}/{known['id']}").json() == answer  # type: ignore[attr-defined]


def test_an_edit_of_an_older_state_is_409_and_changes_nothing(
    execution: FlowExecution, worker: Api, editor: Api
) -> None:
    known = report(worker, execution, output=1)
    edited(editor, known, output=2)
    response = edit(editor, known, output=3)
    assert (response.status_code, error_of(response)["code"]) == (409, "conflict")
    assert TaskExecution.objects.get(pk=known["id"]).output == 2


@pytest.mark.parametrize(
    ("task", "downstream"),
    [
        ("scan", {"extract", "archive", "classify", "report"}),
        ("extract", {"classify", "report"}),
        ("report", set()),
        ("audit", set()),
    ],
)
def test_every_task_downstream_becomes_stale_and_no_other(
    execution: FlowExecution, worker: Api, editor: Api, task: str, downstream: set[str]
) -> None:
    run_all(worker, execution)
    edited(editor, report(worker, execution, task))
    assert stale_tasks(execution) == (downstream, downstream)


def test_tasks_that_only_reported_statuses_become_stale_too(execution: FlowExecution, worker: Api, editor: Api) -> None:
    known = report(worker, execution, "extract")
    worker.post(f"/api/flow-executions/{execution.pk}/task-status", statuses(("report", "completed")))
    edited(editor, known)
    assert stale_tasks(execution) == (set(), {"report"})


def test_the_graph_is_that_of_the_pinned_version(execution: FlowExecution, worker: Api, editor: Api) -> None:
    run_all(worker, execution)
    tasks = [{"name": name} for name in ("scan", "extract", "archive", "classify", "report", "audit")]
    assert (
        worker("PUT", f"/api/flows/{execution.flow_id}/definition", {"definition": {"tasks": tasks}}).status_code == 200
    )
    edited(editor, report(worker, execution, "classify"))
    assert stale_tasks(execution) == ({"report"}, {"report"})


def test_an_edit_is_told_in_one_event_for_each_row_that_changed(
    execution: FlowExecution, worker: Api, editor: Api
) -> None:
    run_all(worker, execution)
    known = report(worker, execution, "extract")
    Event.objects.all().delete()
    answer = edited(editor, known, output="better")
    attempts = {event["task_name"]: event for event in events_of(execution, "task_execution.updated")}
    outputs = {event["task_name"]: event for event in events_of(execution, "task_output.updated")}
    assert Event.objects.count() == 6
    assert attempts["extract"] == answer
    assert set(attempts) == set(outputs) == {"extract", "classify", "report"}
    for event in outputs.values():
        assert event == editor.get(f"/api/task-outputs/{event['id']}").json()  # type: ignore[attr-defined]
    for event in attempts.values():
        assert event == editor.get(f"{PATH}/{event['id']}").json()  # type: ignore[attr-defined]
    Event.objects.all().delete()
    edited(editor, answer, output="best")
    assert Event.objects.count() == 2  # what is stale already does not change


def test_what_says_which_attempt_it_is_cannot_be_edited(execution: FlowExecution, worker: Api, editor: Api) -> None:
    known = report(worker, execution)
    others = {"task_name": "scan", "task_execution_idx": 7, "flow_execution_id": str(uuid4())}
    for field, value in {**others, "organization_id": str(uuid4())}.items():
        response = edit(editor, known, **{field: value})
        assert response.status_code == 422
        assert [problem["loc"] for problem in response.json()["detail"]] == [["body", field]]  # type: ignore[attr-defined]
    assert TaskExecution.objects.get(pk=known["id"]).edited_status == "not_edited"


def test_an_edit_needs_the_whole_object(execution: FlowExecution, worker: Api, editor: Api) -> None:
    known = report(worker, execution)
    for field in ("id", "updated_at", "input", "output", "error", "processing_status", "started_at", "completed_at"):
        response = editor("PUT", PATH, {name: value for name, value in known.items() if name != field})
        assert response.status_code == 422, field
        assert response.json()["detail"][0]["loc"] == ["body", field]  # type: ignore[attr-defined]


def test_what_the_platform_sets_itself_is_ignored_in_an_edit(
    execution: FlowExecution, worker: Api, editor: Api
) -> None:
    known = report(worker, execution)
    answer = edited(
        editor,
        known,
        stale_status="stale",
        edited_status="not_edited",
        modified_by="x",
        created_at="2020-01-01T00:00:00Z",
    )
    assert (answer["stale_status"], answer["edited_status"]) == ("consistent", "edited_not_reexecuted")
    assert (answer["modified_by"], answer["created_at"]) == ("user:rita", known["created_at"])


def test_viewers_and_tokens_without_the_scope_may_not_edit_or_execute(
    execution: FlowExecution, organization: Organization, worker: Api
) -> None:
    known = report(worker, execution)
    viewer = Api(user=make_member(organization, "viewer"))
    reporter = Api(make_token(organization, ["status:write", "tags:write", "read"]))
    for api in (viewer, reporter):
        assert edit(api, known).status_code == 403
        assert api.post(f"/api/flow-executions/{execution.pk}/execute", None).status_code == 403
    assert edit(Api(), known).status_code == 401
    assert edit(Api(make_token(organization, ["executions:write"])), known).status_code == 200


# --- Running again ------------------------------------------------------------------------------------------------


def execute(api: Api, execution: FlowExecution, query: str = "") -> int:
    return api.post(f"/api/flow-executions/{execution.pk}/execute{query}", None).status_code


def set_status(api: Api, execution: FlowExecution, status: str) -> None:
    assert api("PATCH", f"/api/flow-executions/{execution.pk}/status?status={status}").status_code == 200


def processing(execution: FlowExecution) -> dict[str, str]:
    return dict(TaskExecution.objects.filter(flow_execution=execution).values_list("task_name", "processing_status"))


def test_an_edit_with_execute_flow_queues_what_became_stale(execution: FlowExecution, worker: Api, editor: Api) -> None:
    run_all(worker, execution)
    set_status(worker, execution, "completed")
    answer = edited(editor, report(worker, execution, "extract"), "?execute_flow=true", output="better")
    assert answer["edited_status"] == "edited_reexecuted"
    assert answer["processing_status"] == "completed"
    queued = {name for name, status in processing(execution).items() if status == "queued"}
    assert queued == {"classify", "report"} == stale_tasks(execution)[0] == stale_tasks(execution)[1]
    assert output_of(execution, "report").processing_status == "queued"
    assert output_of(execution, "scan").processing_status == "completed"
    execution.refresh_from_db()
    assert (execution.status, execution.modified_by) == ("queued", "user:rita")
    assert [event["status"] for event in events_of(execution, "flow_execution.updated")] == ["completed", "queued"]


def test_queueing_a_task_with_a_history_appends_to_it(execution: FlowExecution, worker: Api, editor: Api) -> None:
    path = f"/api/flow-executions/{execution.pk}/task-status"
    worker.post(path, statuses(("extract", "completed"), ("report", "completed"), ("audit", "completed")))
    report(worker, execution, "classify")
    edited(editor, report(worker, execution, "extract"), "?execute_flow=true")
    history = TaskStatus.objects.filter(flow_execution=execution, task_name="report").order_by("position")
    assert [row.status for row in history] == ["completed", "queued"]
    assert output_of(execution, "report").processing_status == "queued"
    assert events_of(execution, "task_status.added")[-1]["statuses"][0]["id"] == str(history[1].uid)
    assert not TaskStatus.objects.filter(flow_execution=execution, task_name="classify").exists()
    assert (output_of(execution, "classify").processing_status, processing(execution)["classify"]) == (
        "queued",
        "queued",
    )
    assert output_of(execution, "audit").processing_status == "completed"


def test_a_stale_attempt_is_consistent_once_it_has_left_the_queue(
    execution: FlowExecution, worker: Api, editor: Api
) -> None:
    run_all(worker, execution)
    report(worker, execution, "report", processing_status="running")
    known = report(worker, execution, "extract")
    edited(editor, known)
    assert report(worker, execution, "report")["stale_status"] == "stale"  # it had begun before the edit
    assert execute(editor, execution, "?only_stale=true") == 204
    assert report(worker, execution, "report", processing_status="running")["stale_status"] == "consistent"
    assert stale_tasks(execution) == ({"classify"}, {"classify"})


def test_a_new_attempt_is_consistent_from_the_beginning(execution: FlowExecution, worker: Api, editor: Api) -> None:
    run_all(worker, execution)
    edited(editor, report(worker, execution, "extract"))
    report(worker, execution, "classify", idx=1, processing_status="running")
    assert output_of(execution, "classify").stale_status == "consistent"
    assert stale_tasks(execution) == ({"classify", "report"}, {"report"})  # the old attempt stays what it is


def test_a_task_without_attempts_is_consistent_once_its_history_leaves_the_queue(
    execution: FlowExecution, worker: Api, editor: Api
) -> None:
    path = f"/api/flow-executions/{execution.pk}/task-status"
    worker.post(path, statuses(("classify", "running"), ("report", "completed")))
    edited(editor, report(worker, execution, "extract"))
    worker.post(path, statuses(("classify", "completed")))  # it had begun before the edit
    assert stale_tasks(execution)[1] == {"classify", "report"}
    assert execute(editor, execution, "?only_stale=true") == 204
    Event.objects.all().delete()
    worker.post(path, statuses(("classify", "running"), ("audit", "running")))
    assert stale_tasks(execution)[1] == {"report"}
    (told,) = events_of(execution, "task_output.updated")
    assert told == worker.get(f"/api/task-outputs/{told['id']}").json()  # type: ignore[attr-defined]
    assert (told["task_name"], told["stale_status"], told["processing_status"]) == ("classify", "consistent", "running")
    worker.post(path, statuses(("report", "queued"), ("report", "running"), ("report", "completed")))
    assert stale_tasks(execution)[1] == set()


def test_executing_what_is_stale_makes_edits_take_effect(execution: FlowExecution, worker: Api, editor: Api) -> None:
    run_all(worker, execution)
    known = edited(editor, report(worker, execution, "extract"))
    assert execute(editor, execution, "?only_stale=true") == 204
    assert TaskExecution.objects.get(pk=known["id"]).edited_status == "edited_reexecuted"
    assert output_of(execution).edited_status == "edited_reexecuted"
    queued = {name for name, status in processing(execution).items() if status == "queued"}
    assert queued == {"classify", "report"}


def test_executing_again_queues_every_task_that_has_reported(execution: FlowExecution, worker: Api) -> None:
    report(worker, execution, "scan")
    worker.post(f"/api/flow-executions/{execution.pk}/task-status", statuses(("audit", "failed")))
    set_status(worker, execution, "failed")
    assert execute(worker, execution) == 204
    states = dict(TaskOutput.objects.filter(flow_execution=execution).values_list("task_name", "processing_status"))
    assert states == {"scan": "queued", "audit": "queued"}
    execution.refresh_from_db()
    assert execution.status == "queued"
    events = Event.objects.count()
    assert execute(worker, execution) == 204  # what is in the queue stays there
    assert Event.objects.count() == events


def test_where_nothing_is_stale_executing_the_stale_changes_nothing(execution: FlowExecution, worker: Api) -> None:
    run_all(worker, execution)
    set_status(worker, execution, "completed")
    events = Event.objects.count()
    assert execute(worker, execution, "?only_stale=true") == 204
    execution.refresh_from_db()
    assert (execution.status, Event.objects.count()) == ("completed", events)


def test_nothing_is_queued_while_an_execution_is_being_cancelled(
    execution: FlowExecution, worker: Api, editor: Api
) -> None:
    run_all(worker, execution)
    known = report(worker, execution, "extract")
    assert worker.post(f"/api/flow-executions/{execution.pk}/cancel", None).status_code == 204
    refused = worker.post(f"/api/flow-executions/{execution.pk}/execute", None)
    assert (refused.status_code, error_of(refused)["code"]) == (409, "conflict")
    assert edit(editor, known, "?execute_flow=true").status_code == 409
    assert stale_tasks(execution) == (set(), set())
    assert edit(editor, known).status_code == 200  # an edit alone does not run anything
    set_status(worker, execution, "cancelled")
    assert execute(worker, execution) == 204


# --- Task outputs as a service sets them --------------------------------------------------------------------------


def output_body(execution: FlowExecution, task_name: str = "extract", **fields: Any) -> dict[str, Any]:
    return {"flow_execution_id": str(execution.pk), "task_name": task_name, **fields}


def test_a_service_sets_summary_and_output(execution: FlowExecution, worker: Api) -> None:
    response = worker.post("/api/task-outputs", output_body(execution, summary="3 pages", output={"pages": 3}))
    assert response.status_code == 201
    answer = response.json()  # type: ignore[attr-defined]
    assert (answer["summary"], answer["output"], answer["processing_status"]) == ("3 pages", {"pages": 3}, None)
    assert (answer["edited_status"], answer["stale_status"], answer["flow_version"]) == ("not_edited", "consistent", 1)
    assert worker.get(f"/api/task-outputs/{answer['id']}").json() == answer  # type: ignore[attr-defined]
    assert events_of(execution, "task_output.updated") == [answer]


def test_one_that_is_left_out_stays_and_one_of_both_is_needed(execution: FlowExecution, worker: Api) -> None:
    worker.post("/api/task-outputs", output_body(execution, summary="old", output=[1]))
    worker.post("/api/task-outputs", output_body(execution, summary="new"))
    row = output_of(execution)
    assert (row.summary, row.output) == ("new", [1])
    worker.post("/api/task-outputs", output_body(execution, output=None))
    assert output_of(execution).output is None
    assert worker.post("/api/task-outputs", output_body(execution)).status_code == 422


def test_the_state_of_the_task_is_not_touched_by_its_output(execution: FlowExecution, worker: Api) -> None:
    worker.post(f"/api/flow-executions/{execution.pk}/task-status", statuses(("extract", "running")))
    worker.post("/api/task-outputs", output_body(execution, output=5))
    row = output_of(execution)
    assert (row.processing_status, row.output) == ("running", 5)
    report(worker, execution, processing_status="completed")  # says nothing of an output
    assert output_of(execution).output == 5


def test_numbers_come_back_as_they_were_sent(execution: FlowExecution, worker: Api) -> None:
    values = [1e22, 2**63, 0.1, -0.0, 1e308, {"deep": [[[[1]]]]}]
    answer = report(worker, execution, input=values, output=values, error=values)
    again = worker.get(f"{PATH}/{answer['id']}").json()  # type: ignore[attr-defined]
    assert (again["input"], again["output"], again["error"]) == (values, values, values)


def test_ids_of_attempts_are_of_version_7(execution: FlowExecution, worker: Api) -> None:
    assert UUID(report(worker, execution)["id"]).version == 7


@pytest.mark.django_db
def test_a_stranger_sees_nothing_of_a_system_token_s_work(organization: Organization, execution: FlowExecution) -> None:
    report(Api(make_token(None)), execution)
    other = make_organization()
    assert Api(make_token(other)).get(f"{PATH}?flow_execution_id={execution.pk}").status_code == 404
