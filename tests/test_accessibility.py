"""axe-core finds nothing serious on any page, in both themes, on wide and narrow screens.

A new page is a line of `PAGES`: its address, in which `{flow}` and `{run}` are ids, and who looks.
"""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.accessibility import check_accessibility
from tests.browser import Tenant, Visit

PAGES: dict[str, tuple[str, str]] = {
    # name: (address, who looks)
    "sign-in": ("/login/", "nobody"),
    "flows": ("/", "member"),
    "flow": ("/flows/{flow}/", "member"),
    "execution": ("/executions/{run}/", "member"),
    "review": ("/review/", "member"),
    "health": ("/health/ready", "nobody"),
    "404": ("/no-such-page/", "member"),
    "api-docs": ("/api/docs/", "nobody"),
    "admin": ("/admin/", "staff"),
}
# Swagger UI has no dark theme, and a button in each of its headings that are buttons.
ALLOWANCES: dict[str, dict[str, Any]] = {"api-docs": {"schemes": ["light"], "allowing": ["nested-interactive"]}}


@pytest.fixture
def open_page(visit: Visit, tenant: Tenant) -> Callable[[str], Page]:
    """Open a page of the list, on which there is something to see."""

    def open_page(name: str) -> Page:
        address, who = PAGES[name]
        flow = tenant.service.make_flow()
        run = tenant.service.make_run(flow)
        tenant.service.report(run, ("extract", "completed"), ("classify", "failed"))
        page = visit({"nobody": None, "member": tenant.member, "staff": tenant.staff}[who])
        page.goto(address.format(flow=flow["id"], run=run["id"]), wait_until="networkidle")
        return page

    return open_page


@pytest.mark.slow
@pytest.mark.parametrize("name", PAGES)
def test_axe_finds_nothing_serious(name: str, open_page: Callable[[str], Page]) -> None:
    check_accessibility(open_page(name), **ALLOWANCES.get(name, {}))


def test_an_empty_list_of_flows_is_accessible_too(page: Page) -> None:
    page.goto("/")
    check_accessibility(page)


def test_a_refused_sign_in_is_accessible_too(visit: Visit, tenant: Tenant) -> None:
    page = visit()
    page.goto("/login/")
    page.get_by_label("User name").fill(tenant.member.username)
    page.get_by_label("Password").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    check_accessibility(page)


def test_the_check_notices_what_is_serious(page: Page) -> None:
    page.goto("/")
    page.evaluate("document.querySelector('h1').style.color = '#bbb'")
    page.evaluate("document.querySelector('main').append(document.createElement('button'))")
    with pytest.raises(AssertionError, match=r"(?s)button-name.*color-contrast|color-contrast.*button-name"):
        check_accessibility(page)
