"""Lists as files: who may have them, what is in them, and that they are made a part at a time."""

import csv
import io
import re
from collections.abc import Iterator
from typing import Any, cast

import orjson
import psycopg
import pytest
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from executions.models import Flow, FlowExecution
from executions.services import delete_execution
from flowplatform.accounts.models import Organization, Role
from flowplatform.pages import export, list_exports, run_list
from flowplatform.pages.reading import fetched
from flowplatform.pages.run_filter import RunFilter
from tests.builders import (
    Api,
    make_actor,
    make_execution,
    make_flow,
    make_member,
    make_organization,
    make_token,
    statuses,
)

FORMULA = "=cmd|' /C calc'!A0"
HOSTILE = [FORMULA, "+1+1", "-2+3", "@SUM(A1)", 'a "quoted", name\nin two lines', "🦀🇩🇪 שלום עולם", "<b>bold</b>"]
LISTS = ("tasks-export", "history-export", "tags-export")


@pytest.fixture
def browser(organization: Organization) -> Client:
    client = Client()
    client.force_login(make_member(organization, role=Role.VIEWER))
    return client


@pytest.fixture
def flow(organization: Organization) -> Flow:
    return make_flow(organization, *HOSTILE, display_name=FORMULA)


@pytest.fixture
def execution(flow: Flow) -> FlowExecution:
    """A run of tasks with hostile names, statuses and tags."""
    execution = make_execution(flow)
    api = Api(make_token(flow.organization))
    body = statuses(*((name, "running") for name in HOSTILE), (FORMULA, "failed"), ("+1+1", "=odd"))
    assert api.post(f"/api/flow-executions/{execution.pk}/task-status", body).status_code == 200
    tag = {"flow_execution_id": str(execution.pk), "task_name": FORMULA, "tag_type": "=t", "tag": "@x"}
    changes = [
        {"operation": "add", **tag, "tag_metadata": {"note": "=1"}},
        {"operation": "add", **tag},
        {"operation": "remove", **tag},
    ]
    assert api("PATCH", "/api/task-tags", {"tags": changes}).status_code == 200
    summary = {"flow_execution_id": str(execution.pk), "task_name": FORMULA, "summary": {"total": 1e308}}
    assert api.post("/api/task-outputs", summary).status_code == 201
    return execution


def content(answer: Any) -> bytes:
    assert answer.status_code == 200, answer.content
    return b"".join(answer.streaming_content)


def csv_of(answer: Any) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content(answer).decode("utf-8-sig"), newline="")))


def address(name: str, row: Flow | FlowExecution, file_type: str) -> str:
    return reverse(name, args=[row.pk, file_type])


# --- Who may have them ---


def test_a_stranger_gets_the_same_404_as_for_a_missing_one(flow: Flow, execution: FlowExecution) -> None:
    stranger = Client()
    stranger.force_login(make_member(make_organization()))
    for name in (*LISTS, "flow-export"):
        row = flow if name == "flow-export" else execution
        foreign = stranger.get(address(name, row, "csv"))
        missing = stranger.get(address(name, row, "csv").replace(str(row.pk), "01890a5d-ac96-774b-bcce-b302099a8057"))
        assert foreign.status_code == missing.status_code == 404
        assert foreign.content == missing.content
        assert Client().get(address(name, row, "csv")).status_code == 302


def test_there_are_no_other_types(browser: Client, flow: Flow, execution: FlowExecution) -> None:
    assert browser.get(address("flow-export", flow, "xlsx")).status_code == 404
    for name in LISTS:
        assert browser.get(address(name, execution, "xlsx")).status_code == 404


def test_a_deleted_run_has_no_lists_and_is_in_none(browser: Client, flow: Flow, execution: FlowExecution) -> None:
    delete_execution(actor=make_actor(flow.organization), execution_id=execution.pk)
    assert {browser.get(address(name, execution, "csv")).status_code for name in LISTS} == {404}
    assert orjson.loads(content(browser.get(address("flow-export", flow, "json")))) == []
    assert csv_of(browser.get(address("flow-export", flow, "csv"))) == []


# --- What is in them ---


def test_the_runs_of_a_flow(browser: Client, flow: Flow, execution: FlowExecution) -> None:
    make_execution(flow)
    answer = browser.get(address("flow-export", flow, "json"))
    newest, oldest = orjson.loads(content(answer))
    assert (newest["run_number"], newest["status"], newest["started_at"]) == (2, "queued", None)
    assert (oldest["run_number"], oldest["status"], oldest["tasks"], oldest["failed"]) == (1, "running", 7, 1)
    assert oldest["tags"] == ["=t:@x"]
    assert oldest["execution_id"] == str(execution.pk)
    assert oldest["queued_at"].endswith("Z")
    rows = csv_of(browser.get(address("flow-export", flow, "csv")))
    assert [row["run_number"] for row in rows] == ["2", "1"]
    assert rows[1]["tags"] == "'=t:@x"
    assert list(newest) == list(rows[0])


def test_the_filter_of_the_page_is_that_of_the_file(browser: Client, flow: Flow, execution: FlowExecution) -> None:
    make_execution(flow)
    for query, numbers in (("status=running", [1]), ("status=queued", [2]), ("tag==t:@x", [1]), ("to=2000-01-01", [])):
        answer = browser.get(address("flow-export", flow, "json") + "?" + query.replace("==", "=%3D"))
        assert [run["run_number"] for run in orjson.loads(content(answer))] == numbers


@pytest.mark.parametrize("most", ["PART", "PART_TASKS"])
def test_the_file_has_all_pages(browser: Client, flow: Flow, most: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_list, "_CHUNK", 2)
    monkeypatch.setattr(list_exports, most, 2)
    for _ in range(7):
        make_execution(flow)
    rows = csv_of(browser.get(address("flow-export", flow, "csv")))
    assert [row["run_number"] for row in rows] == [str(number) for number in range(7, 0, -1)]


def test_the_tasks_of_a_run_in_the_order_of_its_version(browser: Client, execution: FlowExecution) -> None:
    tasks = orjson.loads(content(browser.get(address("tasks-export", execution, "json"))))
    assert [task["task_name"] for task in tasks] == HOSTILE
    first = tasks[0]
    assert (first["status"], first["attempts"], first["tags"]) == ("failed", 0, ["=t:@x"])
    assert first["summary"] == {"total": 1e308}
    assert first["duration_seconds"] >= 0
    assert first["ended_at"] == first["since"]
    assert tasks[2]["status"] == "running"
    assert tasks[2]["ended_at"] is None


def test_the_history_of_a_run_oldest_first(
    browser: Client, execution: FlowExecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_exports, "PART", 2)
    rows = orjson.loads(content(browser.get(address("history-export", execution, "json"))))
    assert [(row["task_name"], row["status"]) for row in rows] == [
        *((name, "running") for name in HOSTILE),
        (FORMULA, "failed"),
        ("+1+1", "=odd"),
    ]


def test_the_trail_of_tags_says_who_added_and_who_removed(
    browser: Client, execution: FlowExecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_exports, "PART", 1)
    rows = orjson.loads(content(browser.get(address("tags-export", execution, "json"))))
    by_status = {row["status"]: row for row in rows}
    assert len(rows) == 2
    assert by_status["active"]["metadata"] == {"note": "=1"}
    assert by_status["active"]["removed_by"] is None
    assert by_status["removed"]["added_by"].startswith("service:")
    assert by_status["removed"]["removed_by"].startswith("service:")
    assert by_status["removed"]["removed_at"]


def test_no_cell_is_a_formula_and_every_text_comes_back(browser: Client, execution: FlowExecution) -> None:
    for name in LISTS:
        for row in csv_of(browser.get(address(name, execution, "csv"))):
            assert not [cell for cell in row.values() if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]
    names = [row["task_name"] for row in csv_of(browser.get(address("tasks-export", execution, "csv")))]
    assert [name.removeprefix("'") for name in names] == HOSTILE
    assert [name.startswith("'") for name in names] == [True] * 4 + [False] * 3


@pytest.mark.parametrize("text", ["\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1"])  # noqa: RUF001
def test_other_beginnings_of_formulas_are_harmless_too(text: str) -> None:
    (row,) = list(export._csv(["text"], [{"text": text}]))[2:]
    assert next(csv.reader(io.StringIO(row.decode(), newline=""))) == [f"'{text}"]


def test_numbers_stay_numbers() -> None:
    (row,) = list(export._csv(["number"], [{"number": -1.5}]))[2:]
    assert row == b"-1.5\r\n"


def test_a_file_has_a_clean_name_and_is_not_stored(browser: Client, flow: Flow, execution: FlowExecution) -> None:
    answer = browser.get(address("flow-export", flow, "csv"))
    assert answer["Content-Disposition"] == 'attachment; filename="cmd-c-calca0-runs.csv"'
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    assert "no-store" in answer["Cache-Control"]
    tasks = browser.get(address("tasks-export", execution, "json"))
    assert tasks["Content-Disposition"] == 'attachment; filename="cmd-c-calca0-run-1-tasks.json"'
    emoji = make_flow(flow.organization, display_name="🦀")
    assert browser.get(address("flow-export", emoji, "csv"))["Content-Disposition"].endswith('"runs.csv"')


def test_excel_is_told_that_a_file_is_utf_8(browser: Client, flow: Flow) -> None:
    assert content(browser.get(address("flow-export", flow, "csv"))).startswith(b"\xef\xbb\xbfrun_number,")


# --- How they are made ---


def test_the_first_rows_leave_before_the_last_ones_are_read(
    browser: Client, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_list, "_CHUNK", 2)
    monkeypatch.setattr(list_exports, "PART", 2)
    monkeypatch.setattr(export, "PART_BYTES", 1)
    for _ in range(8):
        make_execution(flow)

    def reads(queries: CaptureQueriesContext) -> int:
        return sum("WITH candidate" in query["sql"] for query in queries.captured_queries)

    with CaptureQueriesContext(connection) as queries:
        answer: Any = browser.get(address("flow-export", flow, "csv"))
        parts = iter(answer.streaming_content)
        assert next(parts) + next(parts) == b"\xef\xbb\xbf" + ",".join(list_exports.RUN_COLUMNS).encode() + b"\r\n"
        assert reads(queries) == 0
        assert next(parts).startswith(b"8,")
        assert reads(queries) == 1
        assert b"\r\n1," in b"".join(parts)
        assert reads(queries) == 5


def test_a_file_of_any_length_is_made_of_small_parts() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for number in range(20_000):
            yield {"number": number, "text": "x" * 100}

    sizes = [len(part) for part in export._gathered(export._json(["number", "text"], rows()))]
    assert len(sizes) > 50
    assert max(sizes) < export.PART_BYTES + 1000


def test_a_file_that_breaks_off_says_so() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"a": 1}
        raise OperationalError("the database went away")

    def file(file_type: str) -> bytes:
        return b"".join(cast(Iterator[bytes], export.export_response(file_type, "a", ["a"], rows()).streaming_content))

    assert file("csv").endswith(b"THIS FILE IS INCOMPLETE: something went wrong here. Export it again.\r\n")
    with pytest.raises(orjson.JSONDecodeError):
        orjson.loads(file("json"))


@pytest.mark.usefixtures("committed")
def test_a_file_goes_on_when_its_connection_is_cut() -> None:
    flow = make_flow(make_organization())
    for _ in range(3):
        make_execution(flow)
    walk = run_list.walk(flow.pk, RunFilter(), first_chunk=1)
    numbers = [next(walk)[0].run_number]
    pid = fetched("SELECT pg_backend_pid()", [])[0][0]
    with psycopg.connect(**connection.get_connection_params() | {"cursor_factory": None}) as other:
        other.execute("SELECT pg_terminate_backend(%s)", [pid])
    numbers += [execution.run_number for execution, _, _ in walk]
    assert numbers == [3, 2, 1]
    assert fetched("SELECT pg_backend_pid()", [])[0][0] != pid


def test_an_empty_list_is_valid_json() -> None:
    assert orjson.loads(b"".join(export._json(["a"], []))) == []
    two = b"".join(export._json(["a"], [{"a": 1}, {"a": export.encoded("1e400")}]))
    assert re.sub(rb"\s", b"", two) == b'[{"a":1},{"a":1e400}]'
