"""Signing in and out, and what is not there, in a real browser."""

import re

from playwright.sync_api import Page, expect

from tests.browser import Complaints, Sockets, Tenant, Visit, offline, without_server
from tests.builders import PASSWORD
from tests.stack import Stack


def sign_in(page: Page, username: str, password: str = PASSWORD) -> None:
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_a_member_signs_in_and_lands_on_the_flows(visit: Visit, tenant: Tenant, another_tenant: Tenant) -> None:
    tenant.service.make_flow(display_name="Ours")
    another_tenant.service.make_flow(display_name="Theirs")
    page = visit()
    page.goto("/")
    expect(page).to_have_title("Sign in · Flow Platform")
    sign_in(page, tenant.member.username)
    expect(page.get_by_role("heading", level=1)).to_have_text("Flows")
    expect(page.get_by_role("link", name="Ours")).to_be_visible()
    expect(page.get_by_text("Theirs")).to_have_count(0)


def test_whoever_was_on_the_way_to_a_page_gets_there(visit: Visit, tenant: Tenant) -> None:
    flow = tenant.service.make_flow()
    page = visit()
    page.goto(f"/flows/{flow['id']}/")
    sign_in(page, tenant.member.username)
    expect(page).to_have_url(re.compile(rf"/flows/{flow['id']}/$"))


def test_a_wrong_password_says_so_and_keeps_the_name(visit: Visit, tenant: Tenant) -> None:
    page = visit()
    page.goto("/login/")
    sign_in(page, tenant.member.username, "wrong")
    expect(page.get_by_role("alert")).to_contain_text("correct username and password")
    expect(page.get_by_label("User name")).to_have_value(tenant.member.username)
    expect(page.get_by_label("Password")).to_be_focused()
    sign_in(page, tenant.member.username)
    expect(page.get_by_role("heading", level=1)).to_have_text("Flows")


def test_the_keyboard_is_enough_to_sign_in_and_out(visit: Visit, tenant: Tenant) -> None:
    page = visit()
    page.goto("/")
    expect(page.get_by_label("User name")).to_be_focused()
    page.keyboard.type(tenant.member.username)
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Flows")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    while page.evaluate("document.activeElement.innerText") != "Sign out":
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page).to_have_title("Sign in · Flow Platform")


def test_after_signing_out_the_pages_are_closed_again(page: Page) -> None:
    page.goto("/")
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_title("Sign in · Flow Platform")
    page.goto("/")
    expect(page).to_have_title("Sign in · Flow Platform")


def test_a_strangers_flow_is_not_there(page: Page, another_tenant: Tenant) -> None:
    flow = another_tenant.service.make_flow(display_name="Secret")
    answer = page.goto(f"/flows/{flow['id']}/")
    assert answer
    assert answer.status == 404
    expect(page.get_by_role("heading", level=1)).to_have_text("There is nothing here")
    assert "Secret" not in page.content()
    page.get_by_role("link", name="Go to the flows").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Flows")


def test_a_form_that_went_out_of_date_says_so(visit: Visit, tenant: Tenant) -> None:
    page = visit()
    page.goto("/login/")
    page.context.clear_cookies()
    sign_in(page, tenant.member.username)
    expect(page.get_by_role("heading", level=1)).to_have_text("You may not do this")


# --- What the other tests in a browser rely on ---


def test_two_people_have_browsers_of_their_own(
    page: Page, visit: Visit, tenant: Tenant, another_tenant: Tenant
) -> None:
    stranger = visit(another_tenant.member)
    for browser, user in ((page, tenant.member), (stranger, another_tenant.member)):
        browser.goto("/")
        expect(browser.locator(".account-name")).to_have_text(user.username)


def test_what_the_browser_complains_about_is_noticed(page: Page, complaints: Complaints) -> None:
    complaints.expect("said aloud", "thrown", "no-such-file", "Content Security Policy")
    page.goto("/")
    page.evaluate("console.error('said aloud')")
    page.evaluate("setTimeout(() => { throw new Error('thrown') })")
    page.evaluate("import('/static/no-such-file.js').catch(() => {})")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<b style=\"color: red\">x</b>')")
    for pattern in ("said aloud", "thrown", "no-such-file", "Content Security Policy"):
        complaints.wait_for(page, pattern)
    assert complaints.unexpected() == []


def test_a_page_learns_of_the_network_of_its_sockets_and_of_the_server(
    page: Page, tenant: Tenant, complaints: Complaints, platform: Stack
) -> None:
    flow = tenant.service.make_flow()
    sockets = Sockets(page)
    page.goto(f"/flows/{flow['id']}/")
    indicator = page.locator("#live")
    expect(indicator).to_have_attribute("data-live", "live")

    complaints.expect("net::ERR_")
    with offline(page):
        expect(indicator).to_have_attribute("data-live", "offline")
    expect(indicator).to_have_attribute("data-live", "live")

    sockets.cut()
    sockets.wait_for_another()
    expect(indicator).to_have_attribute("data-live", "live")

    with without_server(platform, complaints):
        expect(indicator).to_have_attribute("data-live", re.compile("reconnecting|offline"))
    expect(indicator).to_have_attribute("data-live", "live", timeout=30_000)
