"""The admin in a browser: no page breaks the Content-Security-Policy, all works by keyboard, axe finds nothing serious.

That a console stays empty, and no policy is violated, is watched by `complaints` in each of these tests.
"""

import re
from collections.abc import Iterator
from contextlib import suppress

import pytest
from django.contrib import admin
from django.contrib.auth.models import Group
from django.utils import timezone
from playwright.sync_api import Error, Page, expect

from executions.models import FlowExecution, TaskExecution
from flowplatform.accounts.models import Organization, ServiceToken
from tests.accessibility import Scheme, check_accessibility
from tests.browser import NARROW, WIDE, Tenant, Visit
from tests.builders import make_token
from tests.test_admin import MODELS, STREAMS, TAGS, TOKENS, list_of

HOSTILE = "<script>alert(1)</script>"
MORE_ROWS = ["#result_list tbody:nth-of-type(n+6)"]  # the rows of other tests: five are enough


@pytest.fixture
def rows(tenant: Tenant) -> FlowExecution:
    """Something to see of every model, with a name that nobody should run."""
    flow = tenant.service.make_flow(HOSTILE, "extract", display_name=HOSTILE)
    run = tenant.service.make_run(flow, {"long": "word" * 200})
    tenant.service.report(run, (HOSTILE, "failed"), ("extract", "requires_review"))
    tag = {"flow_execution_id": run["id"], "task_name": "extract", "tag": HOSTILE, "tag_type": "review"}
    for operation in ("add", "remove"):
        tenant.service("PATCH", "/api/task-tags", {"tags": [{"operation": operation, **tag}]})
    execution = FlowExecution.objects.get(pk=run["id"])
    TaskExecution.objects.create(
        organization=tenant.organization,
        flow_execution=execution,
        task_name="extract",
        task_execution_idx=0,
        processing_status="running",
        output={"a": [1, 2, {"b": None}]},
        created_at=timezone.now(),
        updated_at=timezone.now(),
        modified_by="service:doc-3",
    )
    Group.objects.get_or_create(name="reviewers")
    return execution


def addresses(organization: Organization) -> Iterator[str]:
    """Yield the dashboard, every list, one page of each model, and the forms."""
    yield from ("/admin/", "/admin/?window=day", "/admin/password_change/")
    for model in (*MODELS, Group):
        yield list_of(model)
        if row := model._default_manager.order_by("-pk").first():
            yield f"{list_of(model)}{admin.utils.quote(row.pk)}/change/"
    for name in ("organization", "user", "membership", "serviceaccount", "servicetoken"):
        yield f"/admin/accounts/{name}/add/"


def ready(page: Page, address: str) -> None:
    """Open a page, and wait until Alpine has taken it in hand."""
    page.goto(address)
    page.wait_for_function("!document.documentElement.hasAttribute('x-cloak')")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_page_lives_under_the_policy_is_accessible_and_fits(
    visit: Visit, tenant: Tenant, rows: FlowExecution
) -> None:
    page = visit(tenant.staff, color_scheme="light")
    for address in addresses(tenant.organization):
        page.set_viewport_size(WIDE)
        ready(page, address)
        check_accessibility(page, schemes=["light"], sizes=[WIDE], leaving_out=MORE_ROWS)
        page.set_viewport_size(NARROW)
        with suppress(Error):  # what unfolds by a script takes a moment
            page.wait_for_function("document.documentElement.scrollWidth <= innerWidth", timeout=2000)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= NARROW["width"], f"{address} is {width} px wide"


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["", "tags/tasktag/", "accounts/user/add/", "accounts/organization/{}/change/"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_kind_of_page_is_accessible_in_both_themes_and_widths(
    visit: Visit, tenant: Tenant, rows: FlowExecution, scheme: Scheme, kind: str
) -> None:
    page = visit(tenant.staff, color_scheme=scheme)
    ready(page, f"/admin/{kind.format(tenant.organization.pk)}")
    check_accessibility(page, schemes=[scheme], leaving_out=MORE_ROWS)


def test_the_sign_in_of_the_admin_is_accessible(visit: Visit) -> None:
    page = visit()
    ready(page, "/admin/login/")
    check_accessibility(page)


def test_a_list_is_filtered_by_keyboard(visit: Visit, tenant: Tenant, rows: FlowExecution) -> None:
    page = visit(tenant.staff)
    ready(page, "/admin/executions/flowexecution/")
    filters = page.get_by_role("button", name="Filters")
    filters.focus()
    page.keyboard.press("Enter")
    panel = page.get_by_role("dialog", name="Filters")
    expect(panel).to_be_visible()
    panel.get_by_role("combobox", name="Organization").focus()
    page.keyboard.press("Enter")
    page.keyboard.type(tenant.organization.slug)
    expect(page.get_by_role("option", name=tenant.organization.name, exact=True)).to_be_visible()
    expect(page.get_by_role("option")).to_have_count(1)  # the others are gone, so that this is the one that is chosen
    page.keyboard.press("Enter")
    panel.get_by_role("button", name="Apply").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"organization={tenant.organization.pk}"))
    expect(page.locator("#result_list tbody")).to_have_count(1)


def test_the_menu_the_search_and_the_theme_work_by_keyboard(visit: Visit, tenant: Tenant) -> None:
    page = visit(tenant.staff, color_scheme="light")
    ready(page, "/admin/")
    menu = page.get_by_role("link", name="Service tokens", exact=True)
    expect(menu).to_be_visible()
    page.get_by_role("button", name="Show or hide the menu").first.focus()
    page.keyboard.press("Enter")
    expect(menu).to_be_hidden()
    page.reload()
    expect(menu).to_be_hidden()
    page.get_by_role("button", name="Show or hide the menu").first.press("Enter")
    page.get_by_role("button", name=re.compile(tenant.staff.username)).press("Enter")
    page.get_by_role("button", name="Dark").press("Enter")
    expect(page.locator("html")).to_have_class("dark")
    page.locator("body").click(position={"x": 700, "y": 20})
    page.keyboard.press("Control+k")
    page.get_by_placeholder("Type to search").press_sequentially("membership")
    expect(page.locator("#command-results-list li").first).to_contain_text(re.compile("member", re.IGNORECASE))
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/admin/accounts/membership/"))


def test_a_token_is_revoked_and_a_tag_restored_by_one_press(visit: Visit, tenant: Tenant, rows: FlowExecution) -> None:
    prefix = make_token(tenant.organization)[:8]
    page = visit(tenant.staff)
    ready(page, f"{TOKENS}?q={prefix}")
    page.get_by_role("button", name=re.compile("^Revoke")).press("Enter")
    expect(page.get_by_text(f"Revoked the token {prefix}")).to_be_visible()
    assert ServiceToken.objects.get(prefix=prefix).revoked
    ready(page, f"{TAGS}?q={rows.pk}")
    page.get_by_role("link", name=HOSTILE).first.click()
    page.get_by_role("button", name=re.compile("^Restore")).click()
    expect(page.get_by_text("Restored: 1.")).to_be_visible()
    expect(page.get_by_role("region", name="Trail of this task")).to_contain_text(f"by user:{tenant.staff.username}")


def test_several_rows_are_chosen_for_an_action(visit: Visit, tenant: Tenant, rows: FlowExecution) -> None:
    page = visit(tenant.staff)
    ready(page, f"{STREAMS}?organization={tenant.organization.pk}")
    page.locator("input.action-select").first.check()
    page.locator("select[name=action]").select_option("retry_selected")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("No event waited")).to_be_visible()


def test_the_plots_are_drawn_and_follow_the_theme_of_the_system(
    visit: Visit, tenant: Tenant, rows: FlowExecution
) -> None:
    page = visit(tenant.staff, color_scheme="light")
    ready(page, "/admin/")
    ink = "Chart.getChart(document.querySelector('canvas[data-plot=statuses]')).options.scales.x.ticks.color"
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_class("dark")
    page.wait_for_function(f"{ink} !== {light!r}")
    assert light == "rgb(77, 87, 99)"
