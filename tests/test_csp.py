"""The Content-Security-Policy: every page has it, nothing in it lets code of others run, and a browser obeys it."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.conf import settings as project
from django.db import OperationalError
from django.http import HttpResponse
from django.test import Client
from playwright.sync_api import Page, Route, expect
from pytest_django import Settings

from flowplatform.accounts.models import Organization, User
from flowplatform.accounts.services import ensure_member
from flowplatform.pages.flows import FlowListPage
from flowplatform.urls import documentation, operations, pages
from tests.browser import Complaints, Tenant, Visit
from tests.builders import Api, make_execution, make_flow, make_token
from tests.conftest import Platform
from tests.servers import DATA_DIR
from tests.stack import Stack, free_port
from tests.test_lockout import fail_before

HEADER = "Content-Security-Policy"
STRICT = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'", "data:"],
    "font-src": ["'self'"],
    "connect-src": ["'self'"],
    "worker-src": ["'self'"],
    "form-action": ["'self'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
}
# The pages that may do more, and what: as the settings say, with the reason.
EXCEPTIONS: dict[str, dict[str, list[str]]] = {}

Answer = Callable[[], Any]


def policy_of(response: Any) -> dict[str, list[str]]:
    directives = (part.split() for part in response[HEADER].split(";"))
    return {name: sources for name, *sources in directives}


@pytest.fixture
def staff(organization: Organization) -> User:
    user = User.objects.create(username="staff", is_staff=True, is_superuser=True)
    ensure_member(user=user, organization=organization, role="member")
    return user


@pytest.fixture
def client_of_staff(staff: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(staff)
    return client


@pytest.fixture
def answers(
    client_of_staff: Client, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Callable[[], Any]]:
    """Everything that answers with HTML: by the name of its route, or what happened."""
    flow = make_flow(organization)
    run = make_execution(flow)
    person = client_of_staff

    def broken(error: Exception) -> Any:
        def get(*args: Any, **kwargs: Any) -> HttpResponse:
            raise error

        monkeypatch.setattr(FlowListPage, "get", get)
        return person.get("/")

    def too_many() -> Any:
        monkeypatch.setitem(project.RATE_LIMITS, "anonymous", "1/day")
        address = f"2001:db8:{uuid4().hex[:4]}:{uuid4().hex[:4]}::1"
        return [Client(REMOTE_ADDR=address).get("/login/") for _ in range(2)][-1]

    def locked_out() -> Any:
        fail_before("x", "127.0.0.1", project.AXES_FAILURE_LIMIT)
        return Client().post("/login/", {"username": "x", "password": "y"})

    away = OperationalError("gone")
    away.__cause__ = psycopg.OperationalError("gone")
    return {
        "flow-list-page": lambda: person.get("/"),
        "flow-page": lambda: person.get(f"/flows/{flow.pk}/"),
        "execution-page": lambda: person.get(f"/executions/{run.pk}/"),
        "review-page": lambda: person.get("/review/"),
        "login": lambda: Client().get("/login/"),
        "logout": lambda: person.get("/logout/"),  # by POST only
        "api-docs": lambda: Client().get("/api/docs/"),
        "live": lambda: Client().get("/health/live", headers={"Accept": "text/html"}),
        "ready": lambda: Client().get("/health/ready", headers={"Accept": "text/html"}),
        "admin": lambda: person.get("/admin/"),
        "admin, a list": lambda: person.get("/admin/accounts/user/"),
        "admin, a form": lambda: person.get("/admin/accounts/user/add/"),
        "admin, signed out": lambda: Client().get("/admin/login/"),
        "a refused sign-in": lambda: Client().post("/login/", {"username": "x", "password": "y"}),
        "400": lambda: Client().get("/", headers={"Host": "evil.example"}),
        "403, by a form without its token": lambda: Client(enforce_csrf_checks=True).post("/login/", {}),
        "404": lambda: person.get("/no-such-page/"),
        "429": too_many,
        "429, a sign-in that is locked out": locked_out,
        "500": lambda: broken(RuntimeError("a bug")),
        "503": lambda: broken(away),
    }


NAMES = [
    *("flow-list-page", "flow-page", "execution-page", "review-page", "login", "logout", "api-docs"),
    *("live", "ready"),
    *("admin", "admin, a list", "admin, a form", "admin, signed out", "a refused sign-in"),
    *("400", "403, by a form without its token", "404", "429", "429, a sign-in that is locked out"),
    *("500", "503"),
]
NO_HTML = ("schema", "-snapshot", "-export", "metrics")  # how the names of other routes end


@pytest.mark.parametrize("name", NAMES)
def test_every_page_has_the_policy(name: str, answers: dict[str, Answer]) -> None:
    response = answers[name]()
    assert response["Content-Type"].startswith("text/html")
    if name[:3].isdigit():
        assert response.status_code == int(name[:3])
    extra = next((extra for path, extra in EXCEPTIONS.items() if response.wsgi_request.path.startswith(path)), {})
    expected = {directive: [*sources, *extra.get(directive, [])] for directive, sources in STRICT.items()}
    assert policy_of(response) == expected


def test_no_page_is_left_out(answers: dict[str, Answer]) -> None:
    routes = {
        getattr(route, "name", None) or str(route.pattern).strip("/") for route in [*documentation, *operations, *pages]
    }
    assert {route for route in routes if not route.endswith(NO_HTML)} == set(NAMES) & routes
    assert set(answers) == set(NAMES)


def test_the_exceptions_are_those_listed_here() -> None:
    assert project.CONTENT_SECURITY_POLICY_EXCEPTIONS == EXCEPTIONS


def test_an_exception_holds_below_its_path_only(client_of_staff: Client, settings: Settings) -> None:
    exception = {"style-src": ["'unsafe-inline'"], "media-src": ["blob:"]}
    settings.CONTENT_SECURITY_POLICY_EXCEPTIONS = {"/login/": exception}
    login = policy_of(Client().get("/login/"))
    assert login == {**STRICT, "style-src": ["'self'", "'unsafe-inline'"], "media-src": ["blob:"]}
    assert policy_of(client_of_staff.get("/")) == STRICT


def test_what_is_no_page_has_no_policy(organization: Organization) -> None:
    api = Api(make_token(organization))
    for path in ("/api/flows", f"/api/flows/{uuid4()}", "/api/no-such-thing", "/api/schema/"):
        assert HEADER not in api.get(path)
    assert HEADER not in Client().get("/static/flowplatform/page.js")


# --- Sockets on another port --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "named"),
    [("testserver", "testserver"), ("localhost:8000", "localhost"), ("[::1]:8000", "*"), ("LOCALHOST", "localhost")],
)
def test_sockets_on_another_port_are_allowed_on_the_host_that_was_asked(
    asked: str, named: str, settings: Settings, db: None
) -> None:
    settings.ALLOWED_HOSTS = ["testserver", "localhost", "[::1]"]
    settings.SOCKETS_PORT = 8001
    response = Client().get("/login/", headers={"Host": asked})
    assert policy_of(response) == {**STRICT, "connect-src": ["'self'", f"ws://{named}:8001", f"wss://{named}:8001"]}


@pytest.mark.parametrize("asked", ["evil.example", "x; script-src *", "localhost:8000; script-src *"])
def test_a_host_that_is_not_ours_gets_into_no_policy(asked: str, settings: Settings, db: None) -> None:
    settings.SOCKETS_PORT = 8001
    response = Client().get("/login/", headers={"Host": asked})
    assert (response.status_code, policy_of(response)) == (400, STRICT)


# --- In a browser -------------------------------------------------------------------------------------------------

INJECTED = """
<script>window.ran = "script"</script>
<img src="/static/no-such-image.png" onerror="window.ran = 'handler'">
<script src="data:text/javascript,window.ran = 'data'"></script>
<script src="http://localhost:9/x.js"></script>
<style>h1 { color: rgb(1, 2, 3) }</style>
<a id="link" href="javascript:window.ran = 'link'">x</a>
<base href="http://localhost:9/">
<form action="http://localhost:9/"><button id="send">x</button></form>
</body>"""


def inject(route: Route) -> None:
    """Answer with the server's page and headers, and with markup that no template of ours has."""
    answer = route.fetch()
    route.fulfill(response=answer, body=answer.text().replace("</body>", INJECTED))


def test_injected_code_does_not_run(visit: Visit, complaints: Complaints) -> None:
    complaints.expect("Content Security Policy", "no-such-image")
    page = visit()
    page.route("**/login/", inject)
    page.goto("/login/")
    expect(page.locator("#link")).to_be_attached()
    complaints.wait_for(page, "no-such-image")
    for selector in ("#link", "#send"):
        page.evaluate("(selector) => document.querySelector(selector).click()", selector)
    complaints.wait_for(page, "form-action")
    assert page.evaluate("window.ran") is None
    assert page.evaluate("getComputedStyle(document.querySelector('h1')).color") != "rgb(1, 2, 3)"
    assert page.evaluate("document.baseURI") == page.url
    page.evaluate("""setTimeout("window.ran = 'text'")""")
    complaints.wait_for(page, "unsafe-eval")
    assert page.evaluate("window.ran") is None


def test_the_api_documentation_works_under_the_policy(page: Page, tenant: Tenant) -> None:
    tenant.service.make_flow(display_name="Found by trying it out")
    page.goto("/api/docs/")
    page.get_by_role("button", name="get /api/flows", exact=True).click()
    page.get_by_role("button", name="Try it out").click()
    page.get_by_role("button", name="Execute", exact=True).click()
    expect(page.locator(".live-responses-table")).to_contain_text("Found by trying it out")


@pytest.fixture
def scaled(platform: Platform) -> Iterator[Stack]:
    """A server of pages whose sockets are on the port of another, as `up --web-processes` has them."""
    sockets_port = free_port()
    pages = Stack(DATA_DIR, {"SOCKETS_PORT": str(sockets_port)})
    sockets = Stack(DATA_DIR, {"CSRF_TRUSTED_ORIGINS": pages.url}, port=sockets_port)
    for server in (pages, sockets):
        server.start("live")
    yield pages
    for server in (pages, sockets):
        server.stop()


def test_a_page_reaches_sockets_on_another_port(scaled: Stack, visit: Visit, tenant: Tenant) -> None:
    page = visit(tenant.member, url=scaled.url)
    page.goto(f"/flows/{tenant.service.make_flow()['id']}/")
    expect(page.locator("#live")).to_have_attribute("data-live", "live")
