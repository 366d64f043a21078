"""What tests of the pages use: a real Chromium in front of the running platform.

    def test_a_run_appears(page: Page, tenant: Tenant, platform: Platform) -> None:
        flow = tenant.service.make_flow("read", "check")  # over the API, with a service token
        page.goto(f"/flows/{flow['id']}/")  # signed in as tenant.member
        run = tenant.service.make_run(flow)
        tenant.service.report(run, ("read", "completed"))
        expect(page.get_by_text("1 of 2")).to_be_visible()  # `expect` of playwright.sync_api waits

- `tenant`: an organization of the test's own, with `member`, `staff` and `service`. `another_tenant` is a stranger's.
- `page`: a browser of `tenant.member`. `visit(user)` opens one more for any user, `visit()` for nobody, each with its
  own cookies; keyword arguments are those of Playwright's `new_context` (`viewport=`, `color_scheme=`, …). The base
  address is the platform's: `page.goto("/")`.
- At the end of a test every error in a console, every exception of a script and every violation of the
  Content-Security-Policy fails it. What a test means to provoke it announces: `complaints.expect("net::ERR_")`.
- `offline(page)` tells the browser that it has no network. `without_server(platform, complaints)` stops the live
  process, whose sockets are closed with it. `Sockets(page)`, made before `page.goto`, can `cut()` or `mute()` them.
- `check_accessibility(page)` in `tests/accessibility.py` runs axe.

Wait with `expect` or `page.wait_for_…`, never with `wait_until` or `time.sleep`: while those wait, nobody listens to
the browser. These tests run after all others, because Playwright keeps an event loop running in the main thread.
"""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, cached_property
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.contrib.auth.hashers import make_password
from django.test import Client
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Page,
    ViewportSize,
    WebError,
    WebSocketRoute,
    expect,
)

from flowplatform.accounts.models import Organization, User
from flowplatform.accounts.services import ensure_member
from tests import builders
from tests.chromium import CHROMIUM, MissingChromiumError
from tests.stack import Stack

WIDE: ViewportSize = {"width": 1440, "height": 900}
NARROW: ViewportSize = {"width": 360, "height": 740}
_PATIENCE_MS = 15_000
expect.set_options(timeout=_PATIENCE_MS)


# --- The browser --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Chromium without a window. Tests want `page` or `visit`, which look after what it complains about."""
    problem = ""
    try:
        browser = CHROMIUM.start()
    except MissingChromiumError as error:
        problem = str(error)
    if problem:
        pytest.fail(problem, pytrace=False)
    yield browser
    CHROMIUM.stop()


class Complaints:
    """What the browsers of a test complained about, and what the test expects of that."""

    def __init__(self) -> None:
        self._said: list[str] = []
        self._expected: list[str] = []

    def watch(self, context: BrowserContext) -> None:
        """Note every error in a console and every uncaught exception."""
        context.on("console", self._on_console)
        context.on("weberror", self._on_exception)

    def expect(self, *patterns: str) -> None:
        """Let complaints pass that match one of these regular expressions."""
        self._expected.extend(patterns)

    def wait_for(self, page: Page, pattern: str) -> None:
        """Expect a complaint that matches, and wait for it."""
        self.expect(pattern)
        _listen_until(page, lambda: any(re.search(pattern, text) for text in self._said), f"complaint of {pattern}")

    def unexpected(self) -> list[str]:
        """Return what nobody announced."""
        return [text for text in self._said if not any(re.search(pattern, text) for pattern in self._expected)]

    def _on_console(self, message: ConsoleMessage) -> None:
        address = message.location["url"]
        # A page that is an error page says so here; whether it should be one is for the test to say.
        is_about_page = message.page is not None and address == message.page.url
        if message.type == "error" and not (is_about_page and "the server responded with a status" in message.text):
            self._said.append(f"{message.text} ({address})")

    def _on_exception(self, error: WebError) -> None:
        self._said.append(error.error.stack or error.error.message)


@pytest.fixture
def complaints() -> Iterator[Complaints]:
    complaints = Complaints()
    yield complaints
    unexpected = complaints.unexpected()
    assert not unexpected, "the browser complained:\n" + "\n".join(unexpected)


Visit = Callable[..., Page]


@pytest.fixture
def visit(chromium: Browser, platform: Stack, complaints: Complaints, committed: None) -> Iterator[Visit]:
    """Open a page of a browser of its own, for a user who is signed in there, or for nobody."""
    with ExitStack() as opened:

        def visit(user: User | None = None, *, url: str = platform.url, **options: Any) -> Page:
            options = {"viewport": WIDE, "locale": "en-US", "timezone_id": "UTC", **options}
            context = chromium.new_context(base_url=url, **options)
            opened.callback(context.close)
            context.set_default_timeout(_PATIENCE_MS)
            complaints.watch(context)
            if user is not None:
                context.add_cookies([{"name": name, "value": value, "url": url} for name, value in session_of(user)])
            return context.new_page()

        yield visit


def session_of(user: User) -> Iterator[tuple[str, str]]:
    """Sign a user in as the form does, and yield the cookies: a form for every test would cost seconds of hashing."""
    client = Client()
    client.force_login(user)
    yield from ((name, cookie.value) for name, cookie in client.cookies.items())


# --- Who is there -------------------------------------------------------------------------------------------------


class Service:
    """A worker's way to the running platform: the API with a service token. Refusals are assertion errors."""

    def __init__(self, platform: Stack, organization: Organization) -> None:
        headers = {"Authorization": f"Bearer {builders.make_token(organization)}"}
        self._http = httpx.Client(base_url=platform.url, headers=headers)

    def __call__(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        answer = self._http.request(method, path, json=body, headers=headers)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def make_flow(self, *names: str, display_name: str = "Invoices", **depends_on: list[str]) -> Any:
        """Register a flow of these tasks; without names it has three in a row."""
        if not names:
            names, depends_on = ("extract", "classify", "report"), {"classify": ["extract"], "report": ["classify"]}
        body = {"display_name": display_name, "definition": builders.definition(*names, **depends_on)}
        return self("POST", "/api/flows", body)

    def make_run(self, flow: Any, input: object = None) -> Any:
        """Queue an execution."""
        return self("POST", "/api/flow-executions", {"flow_id": flow["id"], "input": input or {}})

    def report(self, run: Any, *pairs: tuple[str, str]) -> Any:
        """Report statuses of tasks in one batch."""
        return self("POST", f"/api/flow-executions/{run['id']}/task-status", builders.statuses(*pairs))

    def close(self) -> None:
        self._http.close()


class Tenant:
    """An organization with a member and a service. Its rows stay, as those of `committed` do."""

    def __init__(self, platform: Stack) -> None:
        self.organization = builders.make_organization()
        self.member = self.make_user()
        self.service = Service(platform, self.organization)

    @cached_property
    def staff(self) -> User:
        """A member who may see everything in the admin."""
        return self.make_user("admin", is_staff=True, is_superuser=True)

    def make_user(self, role: str = "member", **fields: Any) -> User:
        """Add a person, whose password is `builders.PASSWORD`."""
        username = f"{self.organization.slug}-{role}-{uuid4().hex[:8]}"
        user = User.objects.create(username=username, password=_password(), **fields)
        ensure_member(user=user, organization=self.organization, role=role)
        return user


@cache
def _password() -> str:
    """Hash the password of everybody once: it takes a third of a second."""
    return make_password(builders.PASSWORD)


def _make_tenant(platform: Stack) -> Iterator[Tenant]:
    tenant = Tenant(platform)
    yield tenant
    tenant.service.close()


@pytest.fixture
def tenant(platform: Stack, committed: None) -> Iterator[Tenant]:
    yield from _make_tenant(platform)


@pytest.fixture
def another_tenant(platform: Stack, committed: None) -> Iterator[Tenant]:
    """Somebody else's organization."""
    yield from _make_tenant(platform)


@pytest.fixture
def page(visit: Visit, tenant: Tenant) -> Page:
    """A browser in which a member of `tenant` is signed in."""
    return visit(tenant.member)


# --- What can go wrong --------------------------------------------------------------------------------------------


@contextmanager
def offline(page: Page) -> Iterator[None]:
    """Take the browser's network away, and tell it so, as when a cable is pulled."""
    page.context.set_offline(True)
    try:
        yield
    finally:
        page.context.set_offline(False)


@contextmanager
def without_server(platform: Stack, complaints: Complaints, *, kill: bool = False) -> Iterator[None]:
    """Stop the live process, and with it HTTP and sockets; start it again afterwards."""
    complaints.expect("net::ERR_", "WebSocket connection to")
    platform.stop("live", with_signal=signal.SIGKILL if kill else signal.SIGTERM)
    try:
        yield
    finally:
        platform.start("live")


class Sockets:
    """The sockets of a page, each with us between it and the server. Make it before the page is opened."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._open: list[WebSocketRoute] = []
        self._muted = False
        self.count = 0  # of the connections that the page has made until now
        page.route_web_socket(re.compile("/ws/"), self._route)

    def cut(self, code: int = 1012) -> None:
        """Close all that are open, as a server does that restarts."""
        closing, self._open = self._open, []
        for socket in closing:
            socket.close(code=code)

    def say(self, frame: object) -> None:
        """Send a frame to the page as if the server had."""
        for socket in self._open:
            socket.send(json.dumps(frame))

    def wait_for_another(self) -> None:
        """Wait until the page has made one more connection."""
        before = self.count
        _listen_until(self._page, lambda: self.count > before, "another connection")

    def mute(self, *, muted: bool = True) -> None:
        """Swallow the server's frames, of those that are open and of later ones: a connection that died unnoticed."""
        self._muted = muted

    def _route(self, socket: WebSocketRoute) -> None:
        self.count += 1
        self._open.append(socket)
        server = socket.connect_to_server()
        server.on_message(lambda frame: None if self._muted else socket.send(frame))


def _listen_until(page: Page, truth: Callable[[], bool], what: str) -> None:
    """Wait for something that the browser tells us."""
    deadline = time.monotonic() + _PATIENCE_MS / 1000
    while not truth():
        assert time.monotonic() < deadline, f"no {what}"
        page.wait_for_timeout(20)
