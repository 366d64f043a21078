"""The review pages: what waits for a decision, who may decide, and the trail of what was decided."""

import csv
import io
import json
import random
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from html.parser import HTMLParser
from typing import Any, cast
from urllib.parse import quote
from uuid import uuid4

import pytest
from django.db import connection
from django.http import HttpResponse, StreamingHttpResponse
from django.test import Client

from executions.models import FlowExecution, TaskOutput, WaitingTask
from executions.schemas import TaskStatusUpdate
from executions.services import delete_execution
from executions.task_statuses import record_task_statuses
from flowplatform.accounts.models import Organization, User
from flowplatform.accounts.services import ensure_member
from flowplatform.pages import decided, review, waiting
from tags.models import TaskTag
from tags.schemas import TagOperation
from tags.services import change_task_tags
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
from tests.test_plans import nodes, plans, table_of

PAGE = "/review/"


class Rows(HTMLParser):
    """The rows of a list, each with its attributes and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.rows: list[dict[str, str]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        if tag == "tr" and "data-key" in attributes:
            self.rows.append({**attributes, "text": ""})
        elif tag == "section":
            self.rows.append({"text": ""})

    def handle_data(self, data: str) -> None:
        if self.rows:
            self.rows[-1]["text"] += " " + data.strip() if data.strip() else ""


@pytest.fixture
def member(organization: Organization) -> User:
    return make_member(organization, username="alice")


@pytest.fixture
def browser(member: User) -> Client:
    client = Client()
    client.force_login(member)
    return client


@pytest.fixture
def execution(organization: Organization) -> FlowExecution:
    return make_execution(make_flow(organization))


def text(response: Any) -> str:
    return cast(HttpResponse, response).content.decode()


def shown(browser: Client, **query: str) -> list[dict[str, str]]:
    page = text(browser.get(PAGE, query, headers={"X-Fragment": "review-list"}))
    return [row for row in Rows(page).rows if "data-key" in row]


def names(browser: Client, **query: str) -> list[str]:
    return [row["data-task"] for row in shown(browser, **query)]


def report(execution: FlowExecution, *pairs: tuple[str, str]) -> None:
    api = Api(make_token(execution.organization))
    assert api.post(f"/api/flow-executions/{execution.pk}/task-status", statuses(*pairs)).status_code == 200


def attempt(execution: FlowExecution, task: str, status: str) -> None:
    body = {"flow_execution_id": str(execution.pk), "task_name": task, "task_execution_idx": 0}
    answer = Api(make_token(execution.organization)).post("/api/task-executions", {**body, "processing_status": status})
    assert answer.status_code in (200, 201)


def operation(execution: FlowExecution, task: str, tag: str, tag_type: str = "review", **more: Any) -> dict[str, Any]:
    return {
        "operation": "add",
        "flow_execution_id": str(execution.pk),
        "task_name": task,
        "tag": tag,
        "tag_type": tag_type,
        "tag_metadata": None,
        **more,
    }


def change(user: User, *operations: dict[str, Any]) -> None:
    assert Api(user=user)("PATCH", "/api/task-tags", {"tags": list(operations)}).status_code == 200


def tag(user: User, execution: FlowExecution, task: str, name: str, tag_type: str = "review", **more: Any) -> None:
    change(user, operation(execution, task, name, tag_type, **more))


# --- What waits ---


@pytest.mark.parametrize("status", ["awaiting_input", "requires_review"])
def test_a_task_waits_from_its_status_on_until_the_next(browser: Client, execution: FlowExecution, status: str) -> None:
    report(execution, ("extract", "running"), ("classify", "completed"))
    assert names(browser) == []
    report(execution, ("extract", status))
    assert names(browser) == ["extract"]
    report(execution, ("extract", "running"))
    assert names(browser) == []


def test_a_task_that_only_reports_attempts_waits_too(browser: Client, execution: FlowExecution) -> None:
    attempt(execution, "extract", "awaiting_input")
    assert names(browser) == ["extract"]
    attempt(execution, "extract", "completed")
    assert names(browser) == []


@pytest.mark.parametrize("verdict", ["approved", "rejected", "reviewed"])
def test_a_verdict_settles_what_the_status_asked(
    browser: Client, member: User, execution: FlowExecution, verdict: str
) -> None:
    report(execution, ("extract", "awaiting_input"))
    tag(member, execution, "extract", verdict)
    assert names(browser) == []


def test_another_tag_settles_nothing(browser: Client, member: User, execution: FlowExecution) -> None:
    report(execution, ("extract", "awaiting_input"))
    tag(member, execution, "extract", "approved", "quality")
    tag(member, execution, "extract", "looked at", "review")
    assert names(browser) == ["extract"]


def test_a_verdict_from_before_it_asked_settles_nothing(
    browser: Client, member: User, execution: FlowExecution
) -> None:
    tag(member, execution, "extract", "approved")
    report(execution, ("extract", "awaiting_input"))
    assert names(browser) == ["extract"]


def test_a_task_that_asks_again_is_back(browser: Client, member: User, execution: FlowExecution) -> None:
    report(execution, ("extract", "awaiting_input"))
    tag(member, execution, "extract", "approved")
    report(execution, ("extract", "awaiting_input"))  # a sign of life, not another question
    assert names(browser) == []
    report(execution, ("extract", "running"), ("extract", "awaiting_input"))
    assert names(browser) == []  # one batch: nobody could have seen it run
    report(execution, ("extract", "running"))
    report(execution, ("extract", "awaiting_input"))
    assert names(browser) == ["extract"]


def test_the_same_verdict_can_be_given_again(browser: Client, member: User, execution: FlowExecution) -> None:
    report(execution, ("extract", "awaiting_input"))
    tag(member, execution, "extract", "approved")
    report(execution, ("extract", "running"))
    report(execution, ("extract", "awaiting_input"))
    change(
        member,
        operation(execution, "extract", "approved", operation="remove"),
        operation(execution, "extract", "approved"),
    )
    assert names(browser) == []


def test_a_verdict_that_is_taken_back_opens_the_question_again(
    browser: Client, member: User, execution: FlowExecution
) -> None:
    report(execution, ("extract", "requires_review"))
    tag(member, execution, "extract", "approved")
    tag(member, execution, "extract", "approved", operation="remove")
    assert names(browser) == ["extract"]


def test_a_tag_asks_until_it_is_gone_whatever_its_type(browser: Client, member: User, execution: FlowExecution) -> None:
    tag(member, execution, "report", "requires_review", "legal", tag_metadata={"note": "page 3"})
    (row,) = shown(browser)
    assert re.search(r"review asked\s+by alice \(legal\): “page 3”", row["text"])
    tag(member, execution, "report", "requires_review", "legal", tag_metadata={"note": "page 3"}, operation="remove")
    assert names(browser) == []


def test_a_task_that_waits_for_two_reasons_is_one_row(browser: Client, member: User, execution: FlowExecution) -> None:
    report(execution, ("extract", "awaiting_input"))
    tag(member, execution, "extract", "requires_review")
    (row,) = shown(browser)
    assert "awaiting input" in row["text"]
    assert "review asked" in row["text"]


@pytest.mark.parametrize("end", ["cancelled", "deleted"])
def test_tasks_of_executions_that_are_over_do_not_wait(
    browser: Client, member: User, execution: FlowExecution, end: str
) -> None:
    report(execution, ("extract", "awaiting_input"))
    tag(member, execution, "classify", "requires_review")
    assert len(names(browser)) == 2
    if end == "deleted":
        delete_execution(actor=make_actor(execution.organization), execution_id=execution.pk)
    else:
        api = Api(make_token(execution.organization))
        address = f"/api/flow-executions/{execution.pk}/status?status="
        assert api("PATCH", f"{address}cancelled").status_code == 200
        report(execution, ("report", "awaiting_input"))  # a worker that has not heard of it
    assert names(browser) == []
    if end == "cancelled":
        assert api("PATCH", f"{address}running").status_code == 200
        assert set(names(browser)) == {"extract", "classify", "report"}


@pytest.mark.parametrize("end", ["cancelled", "deleted"])
def test_what_asks_in_dead_runs_does_not_crowd_out_what_waits(
    browser: Client, member: User, execution: FlowExecution, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names_of_dead = [f"task-{i}" for i in range(2 * waiting.MANY + 1)]
    dead = make_execution(make_flow(execution.organization, *names_of_dead))
    for begin in range(0, len(names_of_dead), 100):
        change(member, *[operation(dead, name, "requires_review") for name in names_of_dead[begin : begin + 100]])
    FlowExecution.objects.filter(pk=dead.pk).update(status=end)
    if end == "cancelled":  # and a worker has not heard of it
        report(dead, *[(name, "awaiting_input") for name in names_of_dead[:50]])
    tag(member, execution, "extract", "requires_review")
    report(execution, ("classify", "awaiting_input"))
    assert waiting.count_waiting(make_actor(execution.organization)) == 2
    monkeypatch.setattr(waiting, "LOOKED_AT", 20)
    assert names(browser) == ["extract", "classify"]


def test_the_database_keeps_a_row_for_what_waits_and_no_other(execution: FlowExecution) -> None:
    report(execution, ("extract", "running"), ("classify", "requires_review"))
    (row,) = WaitingTask.objects.filter(flow_execution=execution)
    assert (row.task_name, row.status, row.is_decided, row.is_over) == ("classify", "requires_review", False, False)
    report(execution, ("classify", "awaiting_input"))
    assert WaitingTask.objects.get(flow_execution=execution).since > row.since
    report(execution, ("classify", "completed"))
    assert not WaitingTask.objects.filter(flow_execution=execution).exists()


# --- Who sees and decides what ---


def test_strangers_see_nothing_of_it(member: User, execution: FlowExecution, stranger: Api) -> None:
    report(execution, ("extract", "awaiting_input"))
    tag(member, execution, "classify", "requires_review")
    tag(member, execution, "report", "approved")
    other = Client()
    other.force_login(make_member(make_organization()))
    for address in (PAGE, f"{PAGE}?flow={execution.flow_id}", f"{PAGE}?show=decided"):
        page = text(other.get(address))
        for secret in ("extract", "classify", "alice", "Invoices", str(execution.pk)):
            assert secret not in page
    assert Client().get(PAGE).status_code == 302
    assert Client().get(f"{PAGE}export.csv").status_code == 302


def test_viewers_look_and_do_not_decide(organization: Organization, execution: FlowExecution, browser: Client) -> None:
    report(execution, ("extract", "awaiting_input"))
    viewer = Client()
    viewer.force_login(make_member(organization, role="viewer"))
    for client, may in ((browser, True), (viewer, False)):
        page = text(client.get(PAGE))
        assert "extract" in page
        assert ('id="decide"' in page) == ('data-tags="' in page) == ('id="tag-dialog"' in page) == may
        assert ("aria-selected" in page) == ('aria-label="Select ' in page) == may


def test_a_member_here_who_is_a_viewer_there_decides_here_only(
    organization: Organization, member: User, browser: Client
) -> None:
    there = make_organization()
    ensure_member(user=member, organization=there, role="viewer")
    for place in (organization, there):
        report(make_execution(make_flow(place, place.slug)), (place.slug, "awaiting_input"))
    may = {row["data-task"]: "aria-selected" in row for row in shown(browser)}
    assert may == {organization.slug: True, there.slug: False}


# --- The list ---


def test_what_waits_the_longest_comes_first(browser: Client, member: User, execution: FlowExecution) -> None:
    report(execution, ("report", "awaiting_input"))
    tag(member, execution, "classify", "requires_review")
    report(execution, ("extract", "requires_review"))
    assert names(browser) == ["report", "classify", "extract"]


def test_filters_by_flow_reason_and_name(browser: Client, member: User, organization: Organization) -> None:
    ours = make_execution(make_flow(organization, "Read_it", "check"))
    other = make_execution(make_flow(organization, "check", display_name="Contracts"))
    report(ours, ("Read_it", "awaiting_input"), ("check", "requires_review"))
    tag(member, other, "check", "requires_review")
    assert len(names(browser)) == 3
    assert names(browser, flow=str(other.flow_id)) == ["check"]
    assert names(browser, reason="awaiting_input") == ["Read_it"]
    assert [row["data-status"] for row in shown(browser, reason="tagged")] == [""]
    assert names(browser, task="READ_") == ["Read_it"]
    assert names(browser, task="d%i") == []
    assert len(names(browser, flow="nonsense", reason="\0", task="\0")) == 3
    page = text(browser.get(PAGE, {"task": "nothing like it"}))
    assert "No waiting task matches" in page
    assert 'value="nothing like it"' in page


def test_names_and_notes_are_text(browser: Client, member: User, organization: Organization) -> None:
    name = '<script>alert("1")</script> \u202e 🎉 &' + "x" * 150
    execution = make_execution(make_flow(organization, name, display_name="<b>bold</b>"))
    tag(member, execution, name, "requires_review", "<i>", tag_metadata={"note": "<img src=x>"})
    tag(member, execution, name, "</td>", "review", tag_metadata=["<u>"])
    page = text(browser.get(PAGE)) + text(browser.get(f"{PAGE}?show=decided"))
    for markup in ("<script>alert", "<b>bold", "<i>", "<img", "</td></span>", "<u>"):
        assert markup not in page
    (row,) = shown(browser)
    assert row["data-task"] == name
    assert row["data-address"] == f"/executions/{execution.pk}/?task={quote(name, safe='').replace('%20', '+')}"


def test_a_row_carries_its_live_tags_as_the_api_shows_them(
    browser: Client, member: User, execution: FlowExecution
) -> None:
    tag(member, execution, "extract", "requires_review", tag_metadata={"big": 2**53 - 1})
    tag(member, execution, "extract", "blurry", "quality")
    tag(member, execution, "extract", "gone", "quality")
    tag(member, execution, "extract", "gone", "quality", operation="remove")
    (row,) = shown(browser)
    api = Api(make_token(execution.organization))
    answer = api.get(f"/api/task-tags?flow_execution_id={execution.pk}&task_name=extract")
    assert json.loads(row["data-tags"]) == answer.json()  # type: ignore[attr-defined]


def test_the_list_alone_is_answered_when_it_is_asked_for(browser: Client, execution: FlowExecution) -> None:
    report(execution, ("extract", "awaiting_input"))
    for query in ({}, {"show": "decided"}):
        part = text(browser.get(PAGE, query, headers={"X-Fragment": "review-list"}))
        assert part.strip().startswith('<div id="review-list"')
        assert "<html" not in part


def test_a_long_list_is_cut_and_says_so(
    browser: Client, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "SHOWN", 2)
    execution = make_execution(make_flow(organization, *"abcde"))
    report(execution, *[(name, "awaiting_input") for name in "abcde"])
    page = text(browser.get(PAGE))
    assert len(names(browser)) == 2
    assert "The 2 that wait the longest, of 5" in page
    assert 'id="review-count">5</span>' in page


def test_a_page_asks_the_database_as_often_for_many_tasks_as_for_one(
    browser: Client, organization: Organization, django_assert_max_num_queries: Any
) -> None:
    execution = make_execution(make_flow(organization, *(f"task-{i}" for i in range(100))))
    report(execution, ("task-1", "awaiting_input"))
    for more in ([], [(f"task-{i}", "requires_review") for i in range(2, 100)]):
        if more:
            report(execution, *more)
        with django_assert_max_num_queries(9):
            browser.get(PAGE)


def test_every_page_says_how_much_waits(browser: Client, execution: FlowExecution) -> None:
    assert f'<a href="{PAGE}">Review</a>' in text(browser.get("/"))
    report(execution, ("extract", "awaiting_input"))
    assert 'id="review-count">1</span>' in text(browser.get("/"))


def test_many_are_not_counted_one_by_one(browser: Client, organization: Organization) -> None:
    execution = make_execution(make_flow(organization, *(f"task-{i}" for i in range(100))))
    report(execution, *[(f"task-{i}", "awaiting_input") for i in range(100)])
    assert 'id="review-count">99+</span>' in text(browser.get("/"))


# --- Nothing waits ---


def test_the_command_of_the_empty_list_puts_a_task_on_it(browser: Client, organization: Organization) -> None:
    assert "There is no run yet" in text(browser.get(PAGE))
    execution = make_execution(make_flow(organization, 'it\'s "so" <b> $HOME', "second"))
    answer = run_pasted(text(browser.get(PAGE)), organization)
    assert answer.status_code == 200
    assert answer.json() == {"tags": [{"status": "added"}]}  # type: ignore[attr-defined]
    (row,) = shown(browser)
    assert row["data-task"] == 'it\'s "so" <b> $HOME'
    assert row["data-execution"] == str(execution.pk)


def test_who_is_nowhere_a_member_is_told_so(db: None) -> None:
    client = Client()
    client.force_login(User.objects.create_user("nobody"))
    assert "not a member of an organization" in text(client.get(PAGE))
    assert client.get(f"{PAGE}?show=decided").status_code == 200


class Command(HTMLParser):
    """The text of the page's `pre`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text = ""
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = self._inside or tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        self.text += data if self._inside else ""


def run_pasted(page: str, organization: Organization) -> HttpResponse:
    """Do what the shell and curl do with the command of the page."""
    made, _, command = Command(page).text.partition("\n")
    assert re.fullmatch(rf"TOKEN=\$\(.* --organization {organization.slug} .*\)", made)
    words = shlex.split(command.replace("$TOKEN", make_token(organization)))
    assert words[:3] == ["curl", "-X", "PATCH"]
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    content_type = headers.pop("Content-Type")
    body = words[words.index("-d") + 1].encode()
    path = words[3].removeprefix("http://testserver")
    return Api()("PATCH", path, body, content_type=content_type, **headers)


# --- What was decided ---


def decisions(browser: Client, **query: str) -> list[str]:
    page = text(browser.get(PAGE, {"show": "decided", **query}, headers={"X-Fragment": "review-list"}))
    return [" ".join(row["text"].split()) for row in Rows(page).rows if "data-key" in row]


def test_the_trail_tells_who_decided_what_about_which_task(
    browser: Client, member: User, organization: Organization, execution: FlowExecution
) -> None:
    bob = make_member(organization, username="bob")
    tag(member, execution, "extract", "requires_review", tag_metadata={"note": "page 3?"})
    change(
        bob,
        operation(execution, "extract", "requires_review", operation="remove", tag_metadata={"note": "page 3?"}),
        operation(execution, "extract", "rejected", tag_metadata={"note": "not signed"}),
    )
    tag(member, execution, "extract", "rejected", tag_metadata={"note": "not signed"}, operation="remove")
    tag(member, execution, "extract", "blurry", "quality")  # no decision
    removed, rejected, asked = decisions(browser)
    assert re.match(r"− took back rejected alice extract Invoices , run 1 not signed", removed)  # noqa: RUF001
    assert re.match(r"✕ rejected instead of requires_review taken back by alice, .* bob extract", rejected)
    assert re.match(r"◆ asked for review taken back by bob, .* alice extract Invoices , run 1 page 3\?", asked)


def test_the_trail_is_filtered_by_person_and_verdict(
    browser: Client, member: User, organization: Organization, execution: FlowExecution
) -> None:
    bob = make_member(organization, username="bob")
    tag(member, execution, "extract", "approved")
    tag(bob, execution, "classify", "rejected")
    tag(bob, execution, "report", "approved")
    assert len(decisions(browser)) == 3
    assert len(decisions(browser, by="bob")) == 2
    assert len(decisions(browser, by="bob", kind="approved")) == 1
    assert len(decisions(browser, kind="removed")) == 0
    assert len(decisions(browser, by="\0nobody", kind="\0")) == 0


def test_the_trail_goes_on_page_by_page_without_gap_or_repetition(
    browser: Client, member: User, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decided, "PAGE_SIZE", 3)
    execution = make_execution(make_flow(organization, *"abcdefgh"))
    change(member, *[operation(execution, name, "approved") for name in "abcdefgh"])  # all at one moment
    change(member, *[operation(execution, name, "approved", operation="remove") for name in "abcd"])
    found = list(every_decision(browser))
    assert len(found) == len(set(found)) == 12
    assert browser.get(PAGE, {"show": "decided", "cursor": "nonsense"}).status_code == 302


def every_decision(browser: Client) -> Iterator[str]:
    address = f"{PAGE}?show=decided"
    while True:
        page = text(browser.get(address))
        yield from (row["data-key"] for row in Rows(page).rows if "data-key" in row)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        if not older:
            return
        address = PAGE + older[1].replace("&amp;", "&")


def test_the_trail_goes_on_after_decisions_that_are_not_told(
    browser: Client, member: User, execution: FlowExecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decided, "PAGE_SIZE", 1)
    tag(member, execution, "extract", "approved")
    deleted = make_execution(make_flow(execution.organization, *"abcd"))
    change(member, *[operation(deleted, name, "approved") for name in "abcd"])
    delete_execution(actor=make_actor(execution.organization), execution_id=deleted.pk)
    page = text(browser.get(PAGE, {"show": "decided"}))
    assert "Nothing was decided yet" not in page
    assert "Look further back" in page
    assert len(list(every_decision(browser))) == 1


def test_decisions_of_deleted_executions_are_not_told(browser: Client, member: User, execution: FlowExecution) -> None:
    tag(member, execution, "extract", "approved")
    delete_execution(actor=make_actor(execution.organization), execution_id=execution.pk)
    assert decisions(browser) == []


# --- Files ---


def test_the_worklist_is_exported_as_it_is_filtered(browser: Client, member: User, execution: FlowExecution) -> None:
    report(execution, ("extract", "awaiting_input"))
    tag(member, execution, "classify", "requires_review", "=cmd")
    rows = list(csv.DictReader(io.StringIO(streamed(browser.get(f"{PAGE}export.csv")))))
    assert [(row["task_name"], row["status"], row["tags"]) for row in rows] == [
        ("extract", "awaiting_input", ""),
        ("classify", "", "'=cmd:requires_review"),
    ]
    (row,) = json.loads(streamed(browser.get(f"{PAGE}export.json?reason=tagged")))
    assert row["asked_by"] == ["user:alice"]
    assert row["execution_id"] == str(execution.pk)
    assert browser.get(f"{PAGE}export.xlsx").status_code == 404


@pytest.mark.parametrize(
    "query", [{"flow": "nonsense"}, {"flow": "\0"}, {"reason": "boredom"}, {"task": "\0"}, {"task": "x" * 256}]
)
def test_a_file_is_refused_where_its_filter_is_not_understood(
    browser: Client, execution: FlowExecution, query: dict[str, str]
) -> None:
    answer = browser.get(f"{PAGE}export.csv", query)
    assert answer.status_code == 400
    assert answer["Content-Type"].startswith("text/plain")


def streamed(response: Any) -> str:
    assert isinstance(response, StreamingHttpResponse)
    return b"".join(cast(Any, response.streaming_content)).decode("utf-8-sig")


# --- How it is read ---

# An organization with many runs and tasks, of which few wait and many were decided without ever going on.
FILL = """
    INSERT INTO executions_flowexecution
        (id, organization_id, flow_id, flow_version, run_number, status, input, created_at, updated_at, modified_by)
    SELECT gen_random_uuid(), organization_id, flow_id, 1, run_number + i, 'queued', '{}',
           created_at - make_interval(mins => i), updated_at, 'fill'
    FROM executions_flowexecution CROSS JOIN generate_series(1, 3000) AS i;
    INSERT INTO executions_taskoutput
        (id, organization_id, flow_execution_id, task_name, processing_status, created_at, updated_at, modified_by)
    SELECT gen_random_uuid(), organization_id, id, name,
           CASE WHEN run_number %% 3 = 0 AND name = 'extract' THEN 'requires_review' ELSE 'completed' END,
           created_at, created_at, 'fill'
    FROM executions_flowexecution, unnest(ARRAY['extract', 'classify', 'report']) AS name;
    INSERT INTO tags_tasktag
        (id, organization_id, flow_execution_id, task_name, tag, tag_type, metadata_digest, status, created_at,
         created_by, updated_at, modified_by)
    SELECT gen_random_uuid(), organization_id, id, name, 'approved', 'review', '',
           CASE WHEN run_number %% 5 = 1 THEN 'deleted' ELSE 'active' END, created_at, 'user:fill', created_at, 'fill'
    FROM executions_flowexecution, unnest(ARRAY['extract', 'classify']) AS name WHERE run_number %% 30 <> 0;
    ANALYZE executions_flowexecution, executions_taskoutput, executions_waitingtask, tags_tasktag
"""
LARGE = ("taskstatus", "taskoutput", "taskexecution", "tasktag", "flowexecution")


@pytest.fixture
def many(as_owner: None, execution: FlowExecution) -> FlowExecution:
    with connection.cursor() as cursor:
        for statement in FILL.split(";"):
            cursor.execute(statement.replace("%%", "%"))
    return execution


@pytest.mark.parametrize("query", [{}, {"show": "decided"}, {"show": "decided", "by": "nobody"}])
def test_a_large_organization_is_read_by_indexes(
    many: FlowExecution, browser: Client, query: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decided, "LOOKED_AT", 200)  # few in comparison, as they are in earnest
    with plans() as found:
        assert browser.get(PAGE, query).status_code == 200
    assert found
    for plan in found:
        scans = [table_of(node) for node in nodes(plan) if node["Node Type"] == "Seq Scan"]
        assert not [name for name in scans if name.endswith(LARGE)], plan
    assert len(names(browser)) == waiting.count_waiting(make_actor(many.organization)) > 0


def test_what_somebody_saw_is_compared_by_the_index_of_live_tags(many: FlowExecution, member: User) -> None:
    runs = FlowExecution.objects.filter(flow=many.flow_id)[:100]
    seen = [
        {"flow_execution_id": str(run.pk), "task_name": "extract", "tag_type": "new", "tag_ids": []} for run in runs
    ]
    operations = [operation(many, "extract", "looked at", "new")]
    with plans() as found:
        body = {"tags": operations, "expected": seen}
        assert Api(user=member)("PATCH", "/api/task-tags", body).status_code == 200
    looks = [plan for plan in found if any("wanted" in str(node.get("Alias")) for node in nodes(plan))]
    assert looks
    for plan in looks:
        assert not [node for node in nodes(plan) if node["Node Type"] == "Seq Scan"], plan


# --- At the same moment ---

TASKS = [f"task-{i}" for i in range(8)]


def meddle(seed: int, execution: FlowExecution) -> None:
    """Report and decide about the same tasks as others do, each time in another order."""
    chance = random.Random(seed)
    actor = make_actor(execution.organization)
    try:
        for _ in range(40):
            some = chance.sample(TASKS, 5)
            if seed % 2:
                updates = [
                    TaskStatusUpdate(task_name=name, status=chance.choice(["running", "awaiting_input"]))
                    for name in some
                ]
                record_task_statuses(actor=actor, execution_id=execution.pk, updates=updates)
            else:
                operations = [
                    TagOperation.model_validate(
                        operation(execution, name, "approved", operation=chance.choice(["add", "remove"]))
                    )
                    for name in some
                ]
                change_task_tags(actor=actor, operations=operations)
    finally:
        connection.close()


@pytest.mark.usefixtures("committed")
def test_nothing_is_forgotten_that_is_reported_and_decided_at_the_same_moment() -> None:
    execution = make_execution(make_flow(make_organization(f"meddlers-{uuid4().hex}"), *TASKS))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(meddle, range(4), [execution] * 4))

    states = {row.task_name: row for row in WaitingTask.objects.filter(flow_execution=execution)}
    outputs = TaskOutput.objects.filter(flow_execution=execution, processing_status="awaiting_input")
    assert set(states) == set(outputs.values_list("task_name", flat=True))
    verdicts = dict(TaskTag.objects.filter(flow_execution=execution).live().values_list("task_name", "created_at"))
    decided_names = {name for name, row in states.items() if name in verdicts and verdicts[name] >= row.since}
    assert {name for name, row in states.items() if row.is_decided} <= decided_names
    actor = make_actor(execution.organization)
    found = waiting.worklist(actor, waiting.WaitingFilter(), 100)
    assert {task.task_name for task in found.tasks} == set(states) - decided_names
