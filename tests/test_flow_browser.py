"""The lists of flows and of runs in a real browser: they move by themselves, and what people do there stays."""

import re
import time
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.accessibility import check_accessibility
from tests.browser import NARROW, Complaints, Sockets, Tenant, Visit, offline, without_server
from tests.stack import Stack


@pytest.fixture
def flow(tenant: Tenant) -> Any:
    return tenant.service.make_flow()


def open_live(page: Page, address: str) -> Page:
    page.goto(address)
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
    return page


def row(page: Page, key: str) -> Any:
    return page.locator(f"tr[data-key='{key}']")


# --- Flows ---


def test_a_new_flow_its_runs_and_how_they_end_show_up_by_themselves(page: Page, tenant: Tenant) -> None:
    open_live(page, "/")
    expect(page.get_by_role("heading", name="No flows yet")).to_be_visible()
    flow = tenant.service.make_flow(display_name="Nightly forecast")
    expect(page.get_by_role("link", name="Nightly forecast")).to_be_visible(timeout=20_000)
    first, second = (tenant.service.make_run(flow) for _ in range(2))
    tenant.service.report(first, ("extract", "running"))
    expect(row(page, flow["id"])).to_contain_text("1 running")
    tenant.service.report(first, ("extract", "failed"))
    tenant.service.report(second, *[(name, "completed") for name in ("extract", "classify", "report")])
    expect(row(page, flow["id"])).to_contain_text("1 of 2")
    states = [mark.get_attribute("data-state") for mark in row(page, flow["id"]).locator(".mark").all()]
    assert states == ["failed", "completed"]


def test_a_mark_leads_to_its_run_and_the_arrows_move_between_marks(page: Page, tenant: Tenant, flow: Any) -> None:
    runs = [tenant.service.make_run(flow) for _ in range(3)]
    open_live(page, "/")
    row(page, flow["id"]).locator(".mark").last.focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/executions/{runs[1]['id']}/")


def test_the_list_of_flows_converges_after_its_socket_was_lost(
    page: Page, tenant: Tenant, flow: Any, complaints: Complaints
) -> None:
    complaints.expect("net::ERR_", "WebSocket connection to")
    run = tenant.service.make_run(flow)
    open_live(page, "/")
    with offline(page):
        expect(page.locator("#live")).to_contain_text(re.compile("reconnecting|offline"))
        tenant.service.report(run, ("extract", "failed"))
    expect(row(page, flow["id"])).to_contain_text("1 of 1")


def test_the_lists_converge_after_the_live_process_was_gone(
    page: Page, tenant: Tenant, flow: Any, platform: Stack, complaints: Complaints
) -> None:
    run = tenant.service.make_run(flow)
    open_live(page, f"/flows/{flow['id']}/")
    with without_server(platform, complaints):
        expect(page.locator("#live")).to_contain_text(re.compile("reconnecting|offline"))
    tenant.service.report(run, ("extract", "failed"))
    expect(row(page, run["id"]).locator(".badge")).to_have_text("✕failed", timeout=30_000)


def test_a_strangers_flow_moves_nothing_here(page: Page, tenant: Tenant, another_tenant: Tenant, flow: Any) -> None:
    sockets = Sockets(page)
    open_live(page, "/")
    theirs = another_tenant.service.make_flow(display_name="Theirs")
    another_tenant.service.make_run(theirs)
    run = tenant.service.make_run(flow)
    expect(row(page, flow["id"]).locator(".mark")).to_have_attribute("href", f"/executions/{run['id']}/")
    assert page.get_by_text("Theirs").count() == 0
    assert sockets.count == 1


# --- The runs of a flow ---


def test_a_run_moves_in_the_list_without_disturbing_who_reads_it(page: Page, tenant: Tenant, flow: Any) -> None:
    runs = [tenant.service.make_run(flow) for _ in range(3)]
    open_live(page, f"/flows/{flow['id']}/")
    link = row(page, runs[0]["id"]).get_by_role("link")
    link.focus()
    tenant.service.report(runs[0], ("extract", "completed"))
    expect(row(page, runs[0]["id"])).to_contain_text("1 of 3")
    newest = tenant.service.make_run(flow)
    expect(page.locator("tbody tr").first).to_have_attribute("data-key", newest["id"])
    expect(link).to_be_focused()


def test_filters_live_in_the_address_and_a_run_that_no_longer_matches_leaves(
    page: Page, visit: Visit, tenant: Tenant, flow: Any
) -> None:
    failed, running = (tenant.service.make_run(flow) for _ in range(2))
    tenant.service.report(failed, ("extract", "failed"))
    tenant.service.report(running, ("extract", "running"))
    open_live(page, f"/flows/{flow['id']}/")
    page.get_by_role("checkbox", name="failed").check()
    page.get_by_role("button", name="Filter").click()
    expect(row(page, failed["id"])).to_be_visible()
    expect(row(page, running["id"])).to_be_hidden()
    colleague = open_live(visit(tenant.make_user()), page.url)
    expect(colleague.locator("tbody tr")).to_have_count(1)
    tenant.service.report(failed, ("extract", "running"))
    tenant.service.report(running, ("extract", "failed"))
    expect(row(page, running["id"])).to_be_visible()
    expect(row(page, failed["id"])).to_be_hidden()


def test_hundreds_of_changes_cost_a_few_requests(page: Page, tenant: Tenant, flow: Any) -> None:
    run = tenant.service.make_run(flow)
    open_live(page, f"/flows/{flow['id']}/")
    page.wait_for_timeout(1500)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "x-fragment" in request.headers else None)
    begin = time.monotonic()
    for number in range(60):
        tenant.service.report(run, ("extract", f"step {number}"))
    tenant.service.report(run, *[(name, "completed") for name in ("extract", "classify", "report")])
    expect(row(page, run["id"])).to_contain_text("3 of 3")
    assert 1 <= len(asked) <= 2 + (time.monotonic() - begin)  # once a second


def test_who_is_refused_by_the_socket_but_signed_in_is_not_sent_around(page: Page, flow: Any) -> None:
    for address in ("/", f"/flows/{flow['id']}/"):
        sockets = Sockets(page)
        open_live(page, address)
        page.evaluate("window.same = true")
        sockets.cut(4401)
        expect(page.locator("#live")).to_have_attribute("data-live", "ended")
        page.wait_for_timeout(500)
        assert page.evaluate("window.same"), "the page was loaded anew"


def test_the_graph_of_a_flow_has_its_tasks(page: Page, flow: Any) -> None:
    open_live(page, f"/flows/{flow['id']}/?tab=graph")
    for name in ("extract", "classify", "report"):
        expect(page.locator(f"#graph [aria-label^={name}]")).to_be_visible()


def test_hostile_names_are_text_in_both_lists(page: Page, tenant: Tenant) -> None:
    name = "<img src=x onerror=alert(1)> \u202e 🧾 " + "long " * 30
    flow = tenant.service.make_flow(display_name=name[:255])
    run = tenant.service.make_run(flow)
    tag = {
        "operation": "add",
        "flow_execution_id": run["id"],
        "task_name": "extract",
        "tag": "<b>x</b>",
        "tag_type": "<i>",
    }
    tenant.service("PATCH", "/api/task-tags", {"tags": [tag]})
    for address in ("/", f"/flows/{flow['id']}/"):
        open_live(page, address)
        expect(page.locator("main")).to_contain_text("<img src=x onerror=alert(1)>")
        assert page.locator("main img, main b, main i").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{address} scrolls sideways"


def test_both_lists_fit_a_narrow_screen(visit: Visit, tenant: Tenant, flow: Any) -> None:
    tenant.service.report(tenant.service.make_run(flow), ("extract", "completed"))
    page = visit(tenant.member, viewport=NARROW)
    for address in ("/", f"/flows/{flow['id']}/"):
        open_live(page, address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{address} scrolls sideways"


@pytest.mark.parametrize("query", ["?status=failed", "?tag=nothing", "?tab=graph"])
def test_axe_finds_nothing_serious(page: Page, tenant: Tenant, flow: Any, query: str) -> None:
    tenant.service.report(tenant.service.make_run(flow), ("extract", "failed"))
    open_live(page, f"/flows/{flow['id']}/{query}")
    check_accessibility(page)
