"""The worklist in real browsers: decided by keyboard, shrinking for colleagues, nothing overwritten silently."""

import re
from typing import Any

from playwright.sync_api import Locator, Page, expect

from tests.accessibility import check_accessibility
from tests.browser import Complaints, Tenant, Visit, offline

HOSTILE = "<script>alert(1)</script> \u202e 🎉 " + "long" * 40


def rows(page: Page) -> Locator:
    return page.locator("tr[data-key]")


def row(page: Page, name: str) -> Locator:
    return page.locator(f'tr[data-task="{name}"]')


def wait_until_live(page: Page) -> None:
    expect(page.locator("#live")).to_have_attribute("data-live", "live")


def make_waiting(tenant: Tenant, *names: str, status: str = "awaiting_input") -> Any:
    run = tenant.service.make_run(tenant.service.make_flow(*names))
    tenant.service.report(run, *[(name, status) for name in names])
    return run


def open_review(page: Page, count: int) -> None:
    page.goto("/review/")
    expect(rows(page)).to_have_count(count)
    wait_until_live(page)


def test_three_tasks_approved_by_keyboard_leave_the_list_of_a_colleague(
    page: Page, visit: Visit, tenant: Tenant
) -> None:
    run = make_waiting(tenant, "extract", "classify", "check", "report")
    other = visit(tenant.make_user())
    open_review(page, 4)
    open_review(other, 4)
    page.keyboard.press("ArrowDown")  # into the list
    page.keyboard.press("Space")
    page.keyboard.press("Shift+ArrowDown")
    page.keyboard.press("Shift+ArrowDown")
    expect(page.get_by_role("status").filter(has_text="3 selected")).to_be_visible()
    page.keyboard.press("a")
    expect(rows(page)).to_have_count(1)
    expect(rows(other)).to_have_count(1)
    expect(other.locator("#review-count")).to_have_text("1")
    expect(rows(page).first).to_be_focused()  # the next one
    tags = tenant.service("GET", f"/api/task-tags?flow_execution_id={run['id']}")
    assert [tag["tag"] for tag in tags] == ["approved"] * 3
    assert {tag["created_by"] for tag in tags} == {f"user:{tenant.member.username}"}
    other.get_by_role("link", name="Decided").click()
    expect(rows(other)).to_have_count(3)
    expect(rows(other).first).to_contain_text(tenant.member.username)


def test_whoever_is_overtaken_learns_who_was_faster_and_writes_nothing(
    page: Page, visit: Visit, tenant: Tenant, complaints: Complaints
) -> None:
    run = make_waiting(tenant, "extract", "classify")
    bob = tenant.make_user()
    other = visit(bob)
    open_review(page, 2)
    open_review(other, 2)
    page.route("**/review/", lambda route: route.abort())  # it does not hear of what happens
    complaints.expect("net::ERR_FAILED", "409")
    row(other, "extract").focus()
    other.keyboard.press("r")
    other.get_by_label("Note").fill("not signed")
    other.keyboard.press("Enter")
    expect(rows(other)).to_have_count(1)

    row(page, "extract").focus()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("a")
    expect(page.locator(".toast")).to_contain_text(f"{bob.username} tagged extract “rejected”")
    tags = tenant.service("GET", f"/api/task-tags?flow_execution_id={run['id']}&include_deleted=true")
    assert [(tag["tag"], tag["task_name"]) for tag in tags] == [("rejected", "extract")]
    expect(row(page, "classify")).to_have_attribute("aria-selected", "true")
    page.unroute("**/review/")
    expect(rows(page)).to_have_count(1, timeout=30_000)


def test_a_decision_is_marked_until_the_server_confirms_it_and_survives_a_bad_network(
    page: Page, tenant: Tenant, complaints: Complaints
) -> None:
    make_waiting(tenant, "extract", "classify")
    complaints.expect("net::ERR_", "WebSocket connection to")
    open_review(page, 2)
    row(page, "extract").get_by_role("checkbox").check()
    with offline(page):
        page.get_by_role("button", name="Approve").click()
        expect(row(page, "extract")).to_have_attribute("aria-busy", "true")
        expect(row(page, "extract")).to_contain_text("approved…")
    expect(rows(page)).to_have_count(1)


def test_more_than_a_batch_can_carry_is_decided_in_several(
    page: Page, visit: Visit, tenant: Tenant, complaints: Complaints
) -> None:
    names = [f"task-{i:03}" for i in range(150)]
    run = tenant.service.make_run(tenant.service.make_flow(*names))
    for some in (names[:100], names[100:]):
        tenant.service.report(run, *[(name, "awaiting_input") for name in some])
    bob = tenant.make_user()
    open_review(page, 150)
    page.route("**/review/", lambda route: route.abort())
    complaints.expect("net::ERR_FAILED", "409")
    other = visit(bob)
    open_review(other, 150)
    row(other, "task-149").focus()
    other.keyboard.press("a")
    expect(rows(other)).to_have_count(149)
    page.get_by_label("Select all").check()
    page.keyboard.press("a")
    expect(page.locator(".toast")).to_contain_text(f"{bob.username} tagged task-149 “approved”")
    expect(page.locator(".toast")).to_contain_text("Only the first 100 of yours were written")
    page.unroute("**/review/")
    expect(rows(page)).to_have_count(49, timeout=30_000)
    expect(page.get_by_text("49 selected")).to_be_visible()
    page.keyboard.press("a")
    expect(rows(page)).to_have_count(0)


def test_a_task_that_asks_again_is_back_and_can_be_approved_again(page: Page, tenant: Tenant) -> None:
    run = make_waiting(tenant, "extract")
    open_review(page, 1)
    for _ in range(2):
        row(page, "extract").focus()
        page.keyboard.press("a")
        expect(rows(page)).to_have_count(0)
        tenant.service.report(run, ("extract", "running"))
        tenant.service.report(run, ("extract", "awaiting_input"))
        expect(rows(page)).to_have_count(1)


def test_tags_of_any_type_are_added_and_taken_away(page: Page, tenant: Tenant) -> None:
    make_waiting(tenant, "extract", "classify")
    open_review(page, 2)
    page.get_by_label("Select all").check()
    page.keyboard.press("t")
    page.get_by_label("Type").fill("quality")
    page.get_by_label("Tag to add").fill("<b>blurry</b>")
    page.get_by_role("button", name="Apply").click()
    for name in ("extract", "classify"):
        expect(row(page, name).locator(".tag:not(.pending)")).to_have_text("quality<b>blurry</b>")
    row(page, "extract").focus()
    page.keyboard.press("t")
    page.get_by_label("quality: <b>blurry</b>").check()
    page.keyboard.press("Enter")
    expect(row(page, "extract").locator(".tag")).to_have_count(0)
    expect(row(page, "classify").locator(".tag")).to_have_count(1)


def test_the_keys_are_told_and_lead_everywhere(page: Page, tenant: Tenant) -> None:
    run = make_waiting(tenant, "extract", "classify")
    open_review(page, 2)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Approve what is selected")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    expect(page.get_by_label("Task", exact=True)).to_be_focused()
    page.keyboard.type("CLASS")
    page.keyboard.press("Enter")
    expect(rows(page)).to_have_count(1)
    expect(page).to_have_url(re.compile("task=CLASS"))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Space")
    page.keyboard.press("Escape")
    expect(row(page, "classify")).to_have_attribute("aria-selected", "false")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(rf"/executions/{run['id']}/\?task=classify"))


def test_viewers_watch_without_buttons(visit: Visit, tenant: Tenant) -> None:
    run = make_waiting(tenant, "extract")
    page = visit(tenant.make_user("viewer"))
    open_review(page, 1)
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    page.keyboard.press("a")
    tenant.service.report(run, ("extract", "completed"))
    expect(page.get_by_role("heading", name="Nothing waits for a decision")).to_be_visible()


def test_both_sides_are_accessible(page: Page, tenant: Tenant) -> None:
    make_waiting(tenant, HOSTILE[:200], "extract")
    open_review(page, 2)
    page.get_by_label("Select all").check()
    check_accessibility(page)
    row(page, "extract").focus()
    page.keyboard.press("r")
    check_accessibility(page)
    page.get_by_role("button", name="Apply").click()
    expect(rows(page)).to_have_count(0)
    check_accessibility(page)
    page.goto("/review/?show=decided")
    check_accessibility(page)


def test_nothing_is_wider_than_a_phone(visit: Visit, tenant: Tenant) -> None:
    make_waiting(tenant, HOSTILE[:200], "extract")
    page = visit(tenant.member, viewport={"width": 360, "height": 740})
    for address in ("/review/", "/review/?show=decided"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
