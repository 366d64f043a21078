"""The page of a flow: its runs, filtered and page by page, its graph, and what it answers to its own script."""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from executions.models import Flow, FlowExecution
from executions.services import delete_execution
from flowplatform.accounts.models import Organization, Role
from flowplatform.pages import run_list
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
from tests.test_pages import Document, text

FRAGMENT = {"X-Fragment": "run-list"}


@pytest.fixture
def browser(organization: Organization) -> Client:
    client = Client()
    client.force_login(make_member(organization, role=Role.VIEWER))
    return client


@pytest.fixture
def flow(organization: Organization) -> Flow:
    return make_flow(organization, "read", "check")


def page_of(flow: Flow) -> str:
    return reverse("flow-page", args=[flow.pk])


def runs_on(page: str) -> list[int]:
    return [int(number) for number in re.findall(r"Run </span>(\d+)</a>", page)]


def make_run(flow: Flow, *outcomes: str, tags: Sequence[str] = ()) -> FlowExecution:
    """Make a run whose tasks say this, with tags ("type:tag") on its first task."""
    execution = make_execution(flow)
    api = Api(make_token(flow.organization))
    if outcomes:
        names = ("read", "check")[: len(outcomes)]
        body = statuses(*zip(names, outcomes, strict=True))
        assert api.post(f"/api/flow-executions/{execution.pk}/task-status", body).status_code == 200
    if tags:
        operations = [
            {
                "operation": "add",
                "flow_execution_id": str(execution.pk),
                "task_name": "read",
                "tag_type": tag.partition(":")[0],
                "tag": tag.partition(":")[2],
            }
            for tag in tags
        ]
        assert api("PATCH", "/api/task-tags", {"tags": operations}).status_code == 200
    return execution


def move(execution: FlowExecution, created_at: datetime) -> None:
    FlowExecution.objects.filter(pk=execution.pk).update(created_at=created_at)


# --- What it says ---


def test_a_run_has_its_status_its_progress_and_its_tags(browser: Client, flow: Flow) -> None:
    execution = make_run(flow, "completed", "running", tags=["review:approved", "a:1", "b:2", "c:3"])
    page = text(browser.get(page_of(flow)))
    assert runs_on(page) == [1]
    assert f'href="{reverse("execution-page", args=[execution.pk])}"' in page
    assert '<span class="badge" data-state="running">' in page
    assert 'aria-label="1 completed, 1 running"' in page
    assert "1 of 2" in page
    assert "data-since=" in page
    assert 'title="a:1, on 1 task"' in page
    assert "more: review:approved" in page


def test_a_finished_run_has_its_duration(browser: Client, flow: Flow) -> None:
    make_run(flow, "completed", "completed")
    page = text(browser.get(page_of(flow)))
    assert "data-since=" not in page
    assert re.search(r"\d+ ms", page)


def test_the_graph_gets_the_definition_as_data(browser: Client, organization: Organization) -> None:
    flow = make_flow(organization, "</script><script>alert(1)</script>", "check")
    page = text(browser.get(page_of(flow), {"tab": "graph"}))
    Document(page)  # refuses inline code
    data = re.search(r'<script type="application/json" id="plan">(.*?)</script>', page)
    assert data
    assert [task["name"] for task in orjson.loads(data[1])] == ["</script><script>alert(1)</script>", "check"]


def test_the_address_that_a_run_had_before_leads_to_its_page(browser: Client, flow: Flow) -> None:
    execution = make_run(flow)
    answer = browser.get(page_of(flow), {"execution": str(execution.pk)})
    assert (answer.status_code, answer["Location"]) == (302, reverse("execution-page", args=[execution.pk]))
    assert browser.get(page_of(flow), {"execution": "no-id"}).status_code == 200


def test_a_page_runs_as_many_statements_for_30_runs_as_for_1(browser: Client, flow: Flow) -> None:
    def count() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert browser.get(page_of(flow)).status_code == 200
        return len(queries)

    make_run(flow, "completed", tags=["a:b"])
    count()  # the number of tasks of a version is remembered
    with_one = count()
    for _ in range(29):
        make_run(flow, "failed", tags=["a:b"])
    assert count() == with_one


# --- Filters ---


def filtered(browser: Client, flow: Flow, **query: Any) -> list[int]:
    return runs_on(text(browser.get(page_of(flow), query)))


def test_the_filter_for_a_status_means_what_the_badge_says(browser: Client, flow: Flow) -> None:
    make_run(flow, "completed", "completed")
    make_run(flow, "completed", "failed")
    make_run(flow, "running")
    make_run(flow)
    said = make_run(flow, "completed", "failed")
    FlowExecution.objects.filter(pk=said.pk).update(status="completed")  # somebody has the last word
    assert filtered(browser, flow, status="completed") == [5, 1]
    assert filtered(browser, flow, status="failed") == [2]
    assert filtered(browser, flow, status=["running", "queued"]) == [4, 3]
    assert filtered(browser, flow, status="running,failed") == [3, 2]


def test_the_filter_for_a_tag_knows_live_tags_with_and_without_their_type(browser: Client, flow: Flow) -> None:
    make_run(flow, tags=["review:approved"])
    make_run(flow, tags=["quality:approved"])
    make_run(flow)
    assert filtered(browser, flow, tag="review:approved") == [1]
    assert filtered(browser, flow, tag="approved") == [2, 1]
    assert filtered(browser, flow, tag="review:approve") == []
    page = text(browser.get(page_of(flow)))
    assert '<option value="review:approved">' in page


def test_days_are_those_of_the_readers_time_zone(browser: Client, flow: Flow) -> None:
    move(make_run(flow), datetime.fromisoformat("2026-03-01T23:30:00Z"))
    move(make_run(flow), datetime.fromisoformat("2026-03-02T12:00:00Z"))
    assert filtered(browser, flow, **{"from": "2026-03-02"}) == [2]
    assert filtered(browser, flow, **{"from": "2026-03-02", "zone": "Europe/Berlin"}) == [2, 1]
    assert filtered(browser, flow, to="2026-03-01", zone="Europe/Berlin") == []
    assert filtered(browser, flow, to="2026-03-01", zone="../../etc/passwd") == [1]  # nonsense is UTC


@pytest.mark.parametrize(
    "query", [{"status": "no-such"}, {"from": "yesterday"}, {"to": "0001-01-01"}, {"tag": "\0"}, {"tag": "x" * 400}]
)
def test_a_filter_that_cannot_be_understood_says_so(browser: Client, flow: Flow, query: dict[str, str]) -> None:
    make_run(flow)
    page = text(browser.get(page_of(flow), query))
    assert runs_on(page) == []
    assert 'role="alert"' in page
    assert browser.get(reverse("flow-export", args=[flow.pk, "csv"]), query).status_code == 400


def test_the_filter_stays_in_the_form_and_in_the_addresses(
    browser: Client, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_list, "PAGE_SIZE", 1)
    for _ in range(2):
        make_run(flow, "failed", tags=["a&b:ü"])
    page = text(browser.get(page_of(flow), {"status": "failed", "tag": "a&b:ü"}))
    assert 'value="failed" checked' in page
    assert 'value="a&amp;b:ü"' in page
    query = "status=failed&amp;tag=a%26b%3A%C3%BC"
    assert f'href="?{query}&amp;cursor=' in page
    assert f'{reverse("flow-export", args=[flow.pk, "csv"])}?{query}"' in page


def test_nothing_matches_and_the_page_offers_to_clear_the_filter(browser: Client, flow: Flow) -> None:
    make_run(flow)
    page = text(browser.get(page_of(flow), {"status": "failed"}))
    assert "No run matches" in page
    assert "Clear the filter" in page


# --- Page by page ---


def test_pages_follow_each_other_to_the_end_and_back(
    browser: Client, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_list, "PAGE_SIZE", 3)
    for number in range(8):
        make_run(flow, "failed" if number % 2 else "completed")
    delete_execution(actor=make_actor(flow.organization), execution_id=FlowExecution.objects.get(run_number=4).pk)
    first = text(browser.get(page_of(flow)))
    second = follow(browser, flow, first, "next")
    third = follow(browser, flow, second, "next")
    assert [runs_on(page) for page in (first, second, third)] == [[8, 7, 6], [5, 3, 2], [1]]
    assert 'rel="next"' not in third
    assert runs_on(follow(browser, flow, third, "prev")) == [5, 3, 2]
    back = browser.get(page_of(flow) + address_of(second, "prev"))
    assert back.status_code == 302  # nothing newer is left: it is the first page, whatever came meanwhile
    assert back["Location"] == page_of(flow)


def address_of(page: str, rel: str) -> str:
    found = re.search(rf'rel="{rel}" href="([^"]+)"', page)
    assert found
    return found[1].replace("&amp;", "&")


def follow(browser: Client, flow: Flow, page: str, rel: str) -> str:
    return text(browser.get(page_of(flow) + address_of(page, rel)))


def test_runs_of_the_same_moment_are_all_shown_once(
    browser: Client, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_list, "PAGE_SIZE", 2)
    moment = datetime.fromisoformat("2026-03-01T12:00:00Z")
    for _ in range(5):
        move(make_run(flow), moment)
    page, seen = text(browser.get(page_of(flow))), []
    while True:
        seen += runs_on(page)
        if 'rel="next"' not in page:
            break
        page = follow(browser, flow, page, "next")
    assert sorted(seen) == [1, 2, 3, 4, 5]


def test_a_page_looks_at_so_many_runs_and_offers_to_look_further(
    browser: Client, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(flow, "failed")
    for _ in range(9):
        make_run(flow, "completed", "completed")
    monkeypatch.setattr(run_list, "LOOKED_AT", 4)
    page = text(browser.get(page_of(flow), {"status": "failed"}))
    for _ in range(2):
        assert "No match among these runs" in page
        found = re.search(r'href="([^"]+)">Look further back', page)
        assert found
        page = text(browser.get(page_of(flow) + found[1].replace("&amp;", "&")))
    assert runs_on(page) == [1]


def test_a_page_of_runs_with_very_many_tasks_is_shorter(
    browser: Client, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(4):
        make_run(flow)
    monkeypatch.setattr(run_list, "TASKS_LOOKED_AT", 5)
    page = text(browser.get(page_of(flow)))
    assert runs_on(page) == [4, 3]
    assert runs_on(follow(browser, flow, page, "next")) == [2, 1]


def test_a_cursor_of_another_flow_or_none_at_all_leads_to_the_first_page(
    browser: Client, flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_list, "PAGE_SIZE", 1)
    other = make_flow(flow.organization, "read", "check")
    for _ in range(2):
        make_run(flow)
        make_run(other)
    address = address_of(text(browser.get(page_of(other))), "next")
    for cursor in (address, "?cursor=garbage", "?cursor=%00"):
        answer = browser.get(page_of(flow) + cursor)
        assert (answer.status_code, answer["Location"]) == (302, page_of(flow))


# --- Its script's questions ---


def test_the_list_alone_is_answered_to_its_script(browser: Client, flow: Flow) -> None:
    make_run(flow, "running")
    answer = browser.get(page_of(flow), headers=FRAGMENT)
    fragment = text(answer)
    assert fragment.strip().startswith('<div id="run-list"')
    assert "<html" not in fragment
    assert runs_on(fragment) == [1]
    assert fragment.strip() in text(browser.get(page_of(flow)))
    assert "X-Fragment" in answer["Vary"]
    assert "X-Fragment" in browser.get(page_of(flow))["Vary"]


def test_the_list_of_flows_is_answered_alone_too(browser: Client, flow: Flow) -> None:
    fragment = text(browser.get("/", headers={"X-Fragment": "flow-list"}))
    assert fragment.strip().startswith('<div id="flow-list"')
    assert f'data-key="{flow.pk}"' in fragment
    assert f'data-organizations="{flow.organization_id} "' in fragment


def test_a_fragment_is_nobodys_without_signing_in(flow: Flow) -> None:
    assert Client().get(page_of(flow), headers=FRAGMENT).status_code == 302


def test_a_stranger_finds_neither_page_nor_fragment(flow: Flow) -> None:
    stranger = Client()
    stranger.force_login(make_member(make_organization()))
    assert stranger.get(page_of(flow)).status_code == 404
    assert stranger.get(page_of(flow), headers=FRAGMENT).status_code == 404


def test_a_run_that_is_only_queued_says_since_when(browser: Client, flow: Flow) -> None:
    execution = make_run(flow)
    move(execution, execution.created_at - timedelta(hours=1))
    assert re.search(r"queued</span>\s*<time datetime=", text(browser.get(page_of(flow))))
