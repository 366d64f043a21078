"""What the page of a run is made of: now, at a moment, and for whom."""

import json
import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from executions.models import FlowExecution
from executions.services import delete_execution
from flowplatform.accounts.models import Organization
from flowplatform.pages import snapshots
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

MISSING = "01890a5d-ac96-774b-bcce-b302099a8057"


@pytest.fixture
def execution(organization: Organization) -> FlowExecution:
    return make_execution(make_flow(organization, "extract", "classify", "report"))


@pytest.fixture
def service(organization: Organization) -> Api:
    return Api(make_token(organization))


@pytest.fixture
def browser(organization: Organization) -> Client:
    return signed_in(organization)


def signed_in(organization: Organization, role: str = "member") -> Client:
    client = Client()
    client.force_login(make_member(organization, role))
    return client


def page_of(execution: FlowExecution) -> str:
    return reverse("execution-page", args=[execution.pk])


def report(service: Api, execution: FlowExecution, *pairs: tuple[str, str]) -> None:
    path = f"/api/flow-executions/{execution.pk}/task-status"
    for pair in pairs:  # one at a time: each has a moment of its own
        assert service.post(path, statuses(pair)).status_code == 200


def change_tag(service: Api, execution: FlowExecution, operation: str, tag: str) -> None:
    task = {"flow_execution_id": str(execution.pk), "task_name": "extract", "tag": tag, "tag_type": "review"}
    answer = service("PATCH", "/api/task-tags", {"tags": [{"operation": operation, **task}]})
    assert answer.status_code == 200


def snapshot(browser: Client, execution: FlowExecution, at: str | None = None) -> Any:
    answer = browser.get(reverse("execution-snapshot", args=[execution.pk]), {"at": at} if at else {})
    assert answer.status_code == 200
    return answer.json()


def states(found: Any) -> dict[str, str]:
    return {task["name"]: task["status"] for task in found["tasks"]}


def embedded(page: str, element_id: str) -> Any:
    match = re.search(rf'<script type="application/json" id="{element_id}">(.*?)</script>', page)
    assert match
    return json.loads(match.group(1))


# --- Who sees it ---


def test_a_strangers_run_a_deleted_one_and_a_missing_one_are_the_same_404(
    browser: Client, execution: FlowExecution, organization: Organization
) -> None:
    foreign = make_execution(make_flow(make_organization()))
    delete_execution(actor=make_actor(organization), execution_id=execution.pk)
    for name in ("execution-page", "execution-snapshot"):
        answers = [browser.get(reverse(name, args=[pk])) for pk in (foreign.pk, execution.pk, MISSING)]
        assert [answer.status_code for answer in answers] == [404] * 3
        assert len({answer.content for answer in answers}) == 1


def test_nobody_is_sent_to_sign_in_and_a_script_is_told_why(execution: FlowExecution) -> None:
    assert Client().get(page_of(execution))["Location"].startswith(reverse("login"))
    answer = Client().get(reverse("execution-snapshot", args=[execution.pk]))
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "unauthenticated"


def test_a_viewer_sees_the_run_and_nothing_to_decide_with(organization: Organization, execution: FlowExecution) -> None:
    viewers = signed_in(organization, "viewer").get(page_of(execution)).content.decode()
    members = signed_in(organization).get(page_of(execution)).content.decode()
    assert "data-act" in members
    assert "tag-dialog" in members
    assert "data-act" not in viewers
    assert "tag-dialog" not in viewers


# --- Now ---


def test_the_page_brings_along_what_it_shows(browser: Client, service: Api, execution: FlowExecution) -> None:
    report(service, execution, ("extract", "running"), ("extract", "completed"))
    page = browser.get(page_of(execution)).content.decode()
    assert [task["name"] for task in embedded(page, "plan")] == ["extract", "classify", "report"]
    found = embedded(page, "snapshot")
    assert found["execution"]["id"] == str(execution.pk)
    assert found["execution"]["run_number"] == 1
    assert states(found) == {"extract": "completed"}
    assert found == snapshot(browser, execution)


def test_steps_are_the_history_without_repetitions(browser: Client, service: Api, execution: FlowExecution) -> None:
    report(
        service, execution, *[("extract", status) for status in ("queued", "running", "running", "failed", "running")]
    )
    (task,) = snapshot(browser, execution)["tasks"]
    assert [status for status, _ in task["steps"]] == ["queued", "running", "failed", "running"]
    assert task["at"] == task["steps"][-1][1]
    moments = [moment for _, moment in task["steps"]]
    assert moments == sorted(moments)


def test_a_task_that_only_reports_attempts_has_the_steps_that_they_tell(
    browser: Client, service: Api, execution: FlowExecution
) -> None:
    began = "2026-11-22T08:00:00Z"
    attempt = {"flow_execution_id": str(execution.pk), "task_name": "extract", "task_execution_idx": 0}
    ended = {"processing_status": "completed", "started_at": began, "completed_at": "2026-11-22T08:00:05Z"}
    assert service.post("/api/task-executions", {**attempt, **ended}).status_code == 201
    (task,) = snapshot(browser, execution)["tasks"]
    assert task["status"] == "completed"
    assert task["steps"] == [["running", began], ["completed", "2026-11-22T08:00:05Z"]]


def test_a_long_history_shows_its_newest_part_and_every_state(
    browser: Client, service: Api, execution: FlowExecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    report(service, execution, ("extract", "completed"), ("classify", "running"), ("classify", "failed"))
    monkeypatch.setattr(snapshots, "ROWS", 2)
    now, then = snapshot(browser, execution), snapshot(browser, execution, timezone.now().isoformat())
    for found in (now, then):
        assert states(found) == {"extract": "completed", "classify": "failed"}
        assert {task["name"]: len(task["steps"]) for task in found["tasks"]} == {"extract": 0, "classify": 2}


def test_what_a_browser_misses_between_the_page_and_its_socket_is_named_by_the_position(
    browser: Client, service: Api, execution: FlowExecution
) -> None:
    report(service, execution, ("extract", "running"))
    found = snapshot(browser, execution)
    path = f"/api/flows/{execution.flow_id}/events?since={found['offset']}&epoch={found['epoch']}"
    assert service.get(path).json()["reset"] is False  # type: ignore[attr-defined]


# --- As of a moment ---


def test_at_a_moment_statuses_and_tags_are_those_that_stood_then(
    browser: Client, service: Api, execution: FlowExecution
) -> None:
    before = timezone.now().isoformat()
    report(service, execution, ("extract", "running"))
    running = timezone.now().isoformat()
    change_tag(service, execution, "add", "rejected")
    report(service, execution, ("extract", "completed"), ("classify", "running"))
    rejected = timezone.now().isoformat()
    change_tag(service, execution, "remove", "rejected")
    change_tag(service, execution, "add", "approved")

    def seen(at: str | None) -> tuple[dict[str, str], list[str]]:
        found = snapshot(browser, execution, at)
        return states(found), [tag["tag"] for tag in found["tags"]]

    assert seen(before) == ({}, [])
    assert seen(running) == ({"extract": "running"}, [])
    assert seen(rejected) == ({"extract": "completed", "classify": "running"}, ["rejected"])
    assert seen(None) == ({"extract": "completed", "classify": "running"}, ["approved"])
    (tag,) = snapshot(browser, execution, rejected)["tags"]
    assert tag["status"] == "active"
    assert tag["modified_by"] == tag["created_by"]


def test_a_moment_counts_to_the_microsecond(browser: Client, service: Api, execution: FlowExecution) -> None:
    report(service, execution, ("extract", "running"))
    (task,) = snapshot(browser, execution)["tasks"]
    moment = datetime.fromisoformat(task["at"])
    assert states(snapshot(browser, execution, moment.isoformat())) == {"extract": "running"}
    assert states(snapshot(browser, execution, (moment - timedelta(microseconds=1)).isoformat())) == {}


@pytest.mark.parametrize("at", ["yesterday", "2026-13-45T00:00:00Z", "", "\0"])
def test_a_moment_that_is_none_is_now(browser: Client, service: Api, execution: FlowExecution, at: str) -> None:
    report(service, execution, ("extract", "running"))
    assert snapshot(browser, execution, at)["at"] is None


# --- Hostile names ---


def test_names_and_metadata_cannot_end_the_script_that_carries_them(
    browser: Client, organization: Organization
) -> None:
    name = "</script><script>alert(1)</script><!--"
    execution = make_execution(make_flow(organization, name))
    page = browser.get(page_of(execution)).content.decode()
    assert embedded(page, "plan")[0]["name"] == name
    assert "alert(1)</script>" not in page
