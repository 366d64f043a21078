"""The page of a run in a real browser: it moves, converges after every interruption, and people decide on it."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from flowplatform_client.replay.schedule import critical_path_seconds
from flowplatform_client.replay.wfformat import read_trace
from playwright.sync_api import Locator, Page, Route, expect

from flowplatform.accounts.services import ensure_member
from tests import builders
from tests.accessibility import check_accessibility
from tests.browser import NARROW, Complaints, Sockets, Tenant, Visit, offline, without_server
from tests.stack import ROOT, Stack
from tests.traces import REAL_TRACES, make_document, needs, write_trace

HOSTILE = ["<script>alert('x')</script>", "<img src=x onerror=alert(1)>" + "n" * 170, "שלום 🧾 \u202eabc", "a & b \" '"]


@pytest.fixture
def flow(tenant: Tenant) -> Any:
    return tenant.service.make_flow()


@pytest.fixture
def run(tenant: Tenant, flow: Any) -> Any:
    return tenant.service.make_run(flow)


def open_run(page: Page, run: Any, query: str = "") -> Page:
    page.goto(f"/executions/{run['id']}/{query}")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    return page


def row(page: Page, name: str) -> Locator:
    return page.locator("#tasks").locator(f"tr[data-name={json.dumps(name, ensure_ascii=False)}]")


def tags_of(page: Page, name: str) -> Locator:
    return row(page, name).locator(".tags")


# --- Live ---


def test_a_run_is_watched_from_its_first_report_to_its_end(page: Page, tenant: Tenant, run: Any) -> None:
    open_run(page, run)
    expect(page.locator("h1 .badge")).to_have_text("○queued")
    tenant.service.report(run, ("extract", "running"))
    expect(row(page, "extract").locator(".state")).to_have_text("running")
    expect(page.locator("h1 .badge")).to_have_text("●running")
    tenant.service.report(run, ("extract", "completed"), ("classify", "running"), ("classify", "failed"))
    expect(row(page, "classify").locator(".state")).to_have_text("failed")
    tenant.service.report(run, ("classify", "running"))
    tenant.service.report(run, ("classify", "completed"), ("report", "completed"))
    expect(page.locator("h1 .badge")).to_have_text("✓completed")
    expect(page.get_by_text("3 of 3")).to_be_visible()
    expect(row(page, "classify").locator(".took")).to_contain_text("attempt 2")
    bars = row(page, "classify").locator(".bar-of-task")
    assert [bar.get_attribute("data-state") for bar in bars.all()] == ["failed", "completed"]


def test_what_happens_between_the_page_and_its_socket_is_not_missed_and_nothing_is_fetched_twice(
    page: Page, tenant: Tenant, run: Any
) -> None:
    fetched: list[str] = []
    page.on("request", lambda request: fetched.append(request.url) if request.url.endswith("/snapshot") else None)

    def report_first(route: Route) -> None:
        tenant.service.report(run, ("extract", "running"))
        tenant.service("PATCH", "/api/task-tags", {"tags": [tag(run, "extract", "approved")]})
        route.continue_()

    page.route("**/execution-page.js", report_first)
    open_run(page, run)
    expect(row(page, "extract").locator(".state")).to_have_text("running")
    expect(tags_of(page, "extract")).to_contain_text("approved")
    assert fetched == []


def test_the_page_says_how_late_it_is(page: Page, tenant: Tenant, run: Any) -> None:
    open_run(page, run)
    tenant.service.report(run, ("extract", "running"))
    expect(page.locator("#live")).to_contain_text(re.compile(r"live, \d.* behind"))


def test_what_changed_while_the_network_was_cut_is_there_when_it_is_back(
    page: Page, tenant: Tenant, run: Any, complaints: Complaints
) -> None:
    complaints.expect("net::ERR_", "WebSocket connection to")
    open_run(page, run)
    page.evaluate("window.same = true")
    with offline(page):
        expect(page.locator("#live")).to_contain_text(re.compile("reconnecting|offline"))
        tenant.service.report(run, ("extract", "completed"))
        tenant.service("PATCH", "/api/task-tags", {"tags": [tag(run, "extract", "approved")]})
        expect(row(page, "extract").locator(".state")).to_have_text("not started")
    expect(row(page, "extract").locator(".state")).to_have_text("completed")
    expect(tags_of(page, "extract")).to_contain_text("approved")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    assert page.evaluate("window.same"), "the page was loaded anew"


def test_a_page_converges_after_the_live_process_was_gone(
    page: Page, tenant: Tenant, run: Any, platform: Stack, complaints: Complaints
) -> None:
    open_run(page, run)
    tenant.service.report(run, ("extract", "running"))
    expect(row(page, "extract").locator(".state")).to_have_text("running")
    page.evaluate("window.same = true")
    with without_server(platform, complaints):
        expect(page.locator("#live")).to_contain_text(re.compile("reconnecting|offline"))
    tenant.service.report(run, ("extract", "completed"))
    expect(row(page, "extract").locator(".state")).to_have_text("completed", timeout=30_000)
    assert page.evaluate("window.same"), "the page was loaded anew"


def test_a_reset_makes_the_page_read_everything_again(page: Page, tenant: Tenant, run: Any) -> None:
    sockets = Sockets(page)
    open_run(page, run)
    sockets.mute()
    tenant.service.report(run, ("extract", "completed"))
    with page.expect_request(re.compile("/snapshot$")):
        sockets.mute(muted=False)
        sockets.say({"type": "reset", "epoch": "another", "offset": 7})
    expect(row(page, "extract").locator(".state")).to_have_text("completed")


def test_who_is_signed_out_elsewhere_is_asked_to_sign_in_and_comes_back(
    page: Page, run: Any, complaints: Complaints
) -> None:
    complaints.expect("status of 401")
    sockets = Sockets(page)
    open_run(page, run, "?task=extract")
    page.context.clear_cookies()
    sockets.cut(4401)
    page.wait_for_url(re.compile(r"/login/\?next=.*task%3Dextract"))


def test_a_socket_that_is_refused_to_somebody_who_is_signed_in_leads_nowhere(page: Page, run: Any) -> None:
    sockets = Sockets(page)
    open_run(page, run)
    sockets.cut(4401)
    expect(page.locator("#live")).to_contain_text("not live")
    page.wait_for_timeout(500)
    expect(row(page, "extract")).to_be_visible()


def test_who_is_no_longer_a_member_is_told_so_calmly_and_tries_nothing_again(
    page: Page, tenant: Tenant, another_tenant: Tenant, run: Any
) -> None:
    ensure_member(user=tenant.member, organization=another_tenant.organization, role="viewer")
    theirs = another_tenant.service.make_flow(display_name="The other organization's")
    lists = page.context.new_page()
    lists.goto("/")
    expect(lists.locator("#live")).to_have_attribute("data-live", "live")
    expect(lists.locator(f"tr[data-key='{run['flow_id']}']")).to_be_visible()
    sockets = Sockets(page)
    open_run(page, run)
    tenant.member.memberships.filter(organization=tenant.organization).delete()
    expect(page.get_by_text("you are no longer a member of its organization")).to_be_visible()
    expect(page.locator("#live")).to_have_attribute("data-live", "ended")
    expect(page.get_by_role("button", name="Approve").first).to_be_disabled()
    expect(lists.get_by_text("You are no longer a member")).to_be_visible()
    expect(lists.locator(f"tr[data-key='{run['flow_id']}']")).to_have_count(0)
    expect(lists.locator(f"tr[data-key='{theirs['id']}']")).to_be_visible()
    expect(lists.locator("#live")).to_have_attribute("data-live", "live")
    page.wait_for_timeout(1500)  # longer than the first pause before another attempt
    assert sockets.count == 1


def test_a_deleted_run_says_so(page: Page, tenant: Tenant, run: Any) -> None:
    open_run(page, run)
    tenant.service("DELETE", f"/api/flow-executions/{run['id']}")
    expect(page.get_by_text("This run was deleted.")).to_be_visible()
    expect(page.get_by_role("button", name="Approve").first).to_be_disabled()


@pytest.mark.parametrize("trace", [None, *REAL_TRACES[:1]], ids=["diamond", "fetchngs"])
def test_a_replayed_trace_is_watched_to_its_end(
    page: Page, tenant: Tenant, platform: Stack, tmp_path: Path, trace: Path | None
) -> None:
    """The recorded one lies beside the checkout of developers; without it that part is skipped."""
    if trace:
        needs(trace)
    else:
        trace = write_trace(tmp_path, make_document())
    token = builders.make_token(tenant.organization)
    command = [sys.executable, "manage.py", "replay", str(trace), "--url", platform.url, "--token", token]
    seconds = 4
    speed = critical_path_seconds(read_trace(trace)) / seconds
    with subprocess.Popen([*command, "--speed", str(speed)], cwd=ROOT, stdout=subprocess.DEVNULL) as replay:
        run = wait_for_run(page, tenant)
        open_run(page, run)
        expect(page.locator("h1 .badge")).to_have_text("●running")
        expect(page.locator("h1 .badge")).to_have_text("✓completed", timeout=30_000)
        expect(page.locator("#tasks tbody tr:not([data-state=completed])")).to_have_count(0)
        assert replay.wait(30) == 0


def wait_for_run(page: Page, tenant: Tenant) -> Any:
    """Return the first run of the tenant as soon as there is one."""
    for _ in range(200):
        for flow in tenant.service("GET", "/api/flows"):
            if runs := tenant.service("GET", f"/api/flow-executions?flow_id={flow['id']}"):
                return runs[0]
        page.wait_for_timeout(100)
    pytest.fail("no run was queued")


# --- Deciding ---


def tag(run: Any, task: str, text: str, tag_type: str = "review") -> dict[str, Any]:
    return {"operation": "add", "flow_execution_id": run["id"], "task_name": task, "tag": text, "tag_type": tag_type}


def test_three_tasks_are_approved_by_keyboard_and_a_colleague_sees_it_at_once(
    page: Page, visit: Visit, tenant: Tenant, run: Any
) -> None:
    open_run(page, run)
    colleague = open_run(visit(tenant.make_user()), run)
    page.keyboard.press("ArrowDown")
    for _ in range(3):
        page.keyboard.press("Space")
        page.keyboard.press("ArrowDown")
    expect(page.get_by_text("3 selected")).to_be_visible()
    page.keyboard.press("a")
    for name in ("extract", "classify", "report"):
        expect(tags_of(colleague, name)).to_contain_text("approved")
        expect(tags_of(page, name).locator(".pending")).to_have_count(0)
    row(colleague, "classify").click()
    expect(colleague.locator("#panel")).to_contain_text(f"by {tenant.member.username}")


def test_who_is_slower_is_told_who_was_faster_and_overwrites_nothing(
    page: Page, visit: Visit, tenant: Tenant, run: Any, complaints: Complaints
) -> None:
    complaints.expect("status of 409")
    sockets = Sockets(page)
    open_run(page, run)
    sockets.mute()  # what the colleague does is not heard of in time
    faster = tenant.make_user()
    colleague = open_run(visit(faster), run)
    row(colleague, "extract").click()
    colleague.keyboard.press("a")
    expect(tags_of(colleague, "extract")).to_contain_text("approved")

    row(page, "extract").click()
    page.keyboard.press("r")
    page.keyboard.type("The totals are wrong")
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text(f"{faster.username} tagged extract “approved”")
    expect(tags_of(page, "extract")).to_have_text("review approved")
    standing = tenant.service("GET", f"/api/task-tags?flow_execution_id={run['id']}")
    assert [one["tag"] for one in standing] == ["approved"]


def test_a_rejection_takes_the_place_of_an_approval_and_keeps_its_note_and_the_trail(
    page: Page, tenant: Tenant, run: Any
) -> None:
    tenant.service(
        "PATCH",
        "/api/task-tags",
        {"tags": [tag(run, "extract", "approved"), tag(run, "extract", "checked", "quality")]},
    )
    open_run(page, run, "?task=extract")
    panel = page.locator("#panel")
    expect(panel).to_contain_text("approved")
    panel.get_by_role("button", name="Reject").click()
    page.get_by_label("Note").fill("The <b>totals</b> are wrong")
    page.keyboard.press("Enter")
    expect(tags_of(page, "extract")).to_contain_text("rejected")
    expect(tags_of(page, "extract")).not_to_contain_text("approved")
    expect(tags_of(page, "extract")).to_contain_text("checked")
    expect(panel).to_contain_text("The <b>totals</b> are wrong")
    expect(panel).to_contain_text(f"removed by {tenant.member.username}")


def test_any_tag_is_added_and_taken_away_in_the_dialog(page: Page, tenant: Tenant, run: Any) -> None:
    tenant.service(
        "PATCH", "/api/task-tags", {"tags": [tag(run, name, "flagged", "quality") for name in ("extract", "report")]}
    )
    open_run(page, run)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Control+a")
    page.keyboard.press("t")
    page.get_by_label("Type").fill("team")
    page.get_by_label("Tag to add").fill("finance")
    page.get_by_label("quality: flagged on 2 tasks").check()
    page.get_by_role("button", name="Apply").click()
    for name in ("extract", "classify", "report"):
        expect(tags_of(page, name)).to_have_text("team finance")


def test_nothing_is_lost_silently_when_a_decision_does_not_get_through(
    page: Page, run: Any, complaints: Complaints
) -> None:
    complaints.expect("status of 500")
    open_run(page, run)
    page.route(
        "**/api/task-tags",
        lambda route: (
            route.fulfill(
                status=400,
                json={"error": {"message": "No.", "code": "bad_request", "details": None}, "request_id": None},
            )
            if route.request.method == "PATCH"
            else route.continue_()
        ),
    )
    complaints.expect("status of 400")
    row(page, "extract").click()
    page.keyboard.press("a")
    expect(page.locator("#toasts")).to_contain_text("Not written: No.")
    expect(tags_of(page, "extract")).to_be_empty()


def test_a_key_that_is_held_down_decides_once(page: Page, tenant: Tenant, run: Any) -> None:
    open_run(page, run)
    row(page, "extract").click()
    for _ in range(5):
        page.keyboard.down("a")
    page.keyboard.up("a")
    expect(tags_of(page, "extract")).to_contain_text("approved")
    expect(page.locator("#toasts > *")).to_have_count(1)
    assert len(tenant.service("GET", f"/api/task-tags?flow_execution_id={run['id']}")) == 1


def test_a_selection_that_is_out_of_sight_is_not_decided_on(page: Page, tenant: Tenant, run: Any) -> None:
    open_run(page, run)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Control+a")
    page.get_by_role("link", name="Graph").click()
    page.keyboard.press("a")
    expect(page.locator("#toasts")).to_contain_text("Select a task first")
    assert tenant.service("GET", f"/api/task-tags?flow_execution_id={run['id']}") == []


def test_single_letters_can_be_switched_off(page: Page, tenant: Tenant, run: Any) -> None:
    open_run(page, run, "?task=extract")
    page.keyboard.press("?")
    page.get_by_label("Single letters are keys").uncheck()
    page.keyboard.press("Escape")
    page.reload()
    expect(page.locator("#panel h2")).to_have_text("extract")
    page.keyboard.press("a")
    page.wait_for_timeout(300)
    assert tenant.service("GET", f"/api/task-tags?flow_execution_id={run['id']}") == []


# --- The address is the state ---


def test_a_link_shows_a_colleague_the_same(page: Page, visit: Visit, tenant: Tenant, run: Any) -> None:
    tenant.service.report(run, ("extract", "completed"), ("classify", "failed"))
    open_run(page, run)
    page.get_by_role("button", name="1 failed").click()
    expect(row(page, "extract")).to_be_hidden()
    row(page, "classify").click()
    expect(page.locator("#panel h2")).to_have_text("classify")
    colleague = visit(tenant.make_user())
    colleague.goto(page.url)
    expect(colleague.locator("#panel h2")).to_have_text("classify")
    expect(row(colleague, "extract")).to_be_hidden()
    page.go_back()
    expect(page.locator("#panel")).to_be_hidden()


def test_the_past_is_looked_at_with_the_slider_and_by_its_address(
    page: Page, visit: Visit, tenant: Tenant, run: Any
) -> None:
    tenant.service.report(run, ("extract", "running"))
    tenant.service("PATCH", "/api/task-tags", {"tags": [tag(run, "extract", "rejected")]})
    tenant.service.report(run, ("extract", "completed"))
    open_run(page, run)
    slider = page.get_by_label("As of", exact=True)
    with page.expect_response(re.compile("include_deleted=true")):
        slider.focus()
    expect(slider).to_have_attribute("max", "4")  # queued, running, tagged, completed; and now
    page.keyboard.press("ArrowLeft")  # the last change
    page.keyboard.press("ArrowLeft")  # the tag
    expect(row(page, "extract").locator(".state")).to_have_text("running")
    expect(tags_of(page, "extract")).to_contain_text("rejected")
    page.keyboard.press("ArrowLeft")
    expect(tags_of(page, "extract")).to_be_empty()
    expect(page.get_by_role("button", name="Approve").first).to_be_disabled()
    colleague = visit(tenant.make_user())
    colleague.goto(page.url)
    expect(row(colleague, "extract").locator(".state")).to_have_text("running")
    before = slider.input_value()
    slider.focus()
    page.keyboard.press("ArrowUp")
    assert int(slider.input_value()) == int(before) + 1
    page.keyboard.press("ArrowDown")
    tenant.service.report(run, ("classify", "running"))
    expect(row(page, "classify").locator(".state")).to_have_text("not started")
    page.get_by_role("button", name="Back to now").click()
    expect(row(page, "classify").locator(".state")).to_have_text("running")


def test_who_goes_back_while_the_past_is_on_its_way_is_in_the_present(page: Page, tenant: Tenant, run: Any) -> None:
    tenant.service.report(run, ("extract", "running"))
    moment = tenant.service("GET", f"/api/flow-executions/{run['id']}")["created_at"]
    open_run(page, run)
    page.evaluate("at => history.pushState(null, '', `?at=${at}`)", moment)
    page.evaluate("() => dispatchEvent(new PopStateEvent('popstate'))")
    page.go_back()
    page.wait_for_timeout(500)
    expect(row(page, "extract").locator(".state")).to_have_text("running")
    assert "at=" not in page.url


def test_the_graph_and_the_history_move_too(page: Page, tenant: Tenant, run: Any) -> None:
    open_run(page, run, "?tab=graph")
    node = page.locator("#graph [aria-label^='extract']")
    expect(node).to_have_attribute("data-state", "unreported")
    tenant.service.report(run, ("extract", "running"))
    expect(node).to_have_attribute("data-state", "running")
    page.get_by_role("link", name="History").click()
    expect(page.locator("#history li")).to_have_count(1)
    tenant.service("PATCH", "/api/task-tags", {"tags": [tag(run, "extract", "approved")]})
    expect(page.locator("#history li").first).to_contain_text("approved")


def test_the_keys_are_shown_by_a_question_mark(page: Page, run: Any) -> None:
    open_run(page, run)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_contain_text("Approve what is selected")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_label("Search for a task or a tag")).to_be_focused()
    page.keyboard.type("class")
    expect(row(page, "extract")).to_be_hidden()
    expect(row(page, "classify")).to_be_visible()


# --- What comes from workers is text ---


def test_hostile_names_and_metadata_are_shown_as_text(page: Page, tenant: Tenant) -> None:
    flow = tenant.service.make_flow(*HOSTILE, display_name="<script>alert('flow')</script>")
    run = tenant.service.make_run(flow)
    names = {"tag": "<b>bold</b>", "tag_type": "<i>type</i>", "tag_metadata": {"note": "<img src=x onerror=alert(2)>"}}
    tenant.service("PATCH", "/api/task-tags", {"tags": [{**tag(run, name, ""), **names} for name in HOSTILE]})
    tenant.service.report(run, *[(name, "<u>status</u>") for name in HOSTILE])
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    open_run(page, run)
    for name in HOSTILE:
        assert row(page, name).locator(".name").text_content() == name
        row(page, name).click()
        expect(page.locator("#panel h2")).to_have_text(name)
        expect(page.locator("#panel")).to_contain_text("<img src=x onerror=alert(2)>")
    for tab in ("Graph", "History"):
        page.get_by_role("link", name=tab).click()
        page.wait_for_timeout(300)
    assert page.locator("main img, main script:not([type='application/json']), main b, main u").count() == 0
    assert not dialogs


def test_everything_is_reachable_on_a_narrow_screen(visit: Visit, tenant: Tenant, run: Any) -> None:
    tenant.service.report(run, ("extract", "completed"))
    page = open_run(visit(tenant.member, viewport=NARROW), run)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    row(page, "extract").click()
    expect(page.locator("#panel")).to_be_in_viewport()
    page.locator("#panel").get_by_role("button", name="Approve").click()
    expect(page.locator("#panel .tag").first).to_contain_text("approved")
    page.get_by_role("button", name="Close the task").click()
    expect(page.locator("#panel")).to_be_hidden()


@pytest.mark.parametrize("query", ["?task=extract", "?tab=graph", "?tab=history", "?state=failed"])
def test_axe_finds_nothing_serious(page: Page, tenant: Tenant, run: Any, query: str) -> None:
    tenant.service.report(run, ("extract", "completed"), ("classify", "running"), ("report", "awaiting_input"))
    tenant.service("PATCH", "/api/task-tags", {"tags": [tag(run, "extract", "approved")]})
    open_run(page, run, query)
    page.wait_for_timeout(300)
    check_accessibility(page)


def test_a_stranger_sees_nothing(visit: Visit, another_tenant: Tenant, run: Any) -> None:
    page = visit(another_tenant.member)
    page.goto(f"/executions/{run['id']}/")
    expect(page.get_by_text("There is nothing here")).to_be_visible()
