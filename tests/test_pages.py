"""The pages: who sees which, what they say without a script, and that a strict Content-Security-Policy fits them."""

import re
import shlex
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, cast

import pytest
from django.contrib.staticfiles import finders
from django.db import connection
from django.http import HttpResponse
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from pytest_django import Settings

from executions.models import Flow
from executions.services import delete_execution
from flowplatform.accounts.models import Organization, User
from tests.builders import (
    PASSWORD,
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
STATIC = "/static/"


class Document(HTMLParser):
    """The elements of a page: tags with their attributes, and the text inside of each `pre`."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.commands: list[str] = []
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        is_data = tag == "script" and ("type", "application/json") in attrs
        self._open = "data" if is_data else tag
        if tag == "pre":
            self.commands.append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        assert self._open not in ("script", "style"), "inline code"
        if self._open == "pre":
            self.commands[-1] += data

    def attributes(self, name: str) -> Iterator[str]:
        return (attributes[name] for _, attributes in self.elements if name in attributes)


@pytest.fixture
def member(organization: Organization) -> User:
    return make_member(organization)


@pytest.fixture
def browser(member: User) -> Client:
    client = Client()
    client.force_login(member)
    return client


def flow_page(flow: Flow) -> str:
    return reverse("flow-page", args=[flow.pk])


def text(response: Any) -> str:
    return cast(HttpResponse, response).content.decode()


def report(flow: Flow, execution: Any, *pairs: tuple[str, str]) -> None:
    answer = Api(make_token(flow.organization)).post(
        f"/api/flow-executions/{execution.pk}/task-status", statuses(*pairs)
    )
    assert answer.status_code == 200


# --- Who sees which page ---


def test_nobody_is_asked_to_sign_in_and_comes_back_afterwards(organization: Organization) -> None:
    member, flow = make_member(organization), make_flow(organization)
    client = Client()
    refusal = client.get(flow_page(flow), {"execution": "1"})
    assert refusal.status_code == 302
    address = refusal["Location"]
    assert address.startswith(reverse("login") + "?next=")
    assert 'autocomplete="current-password"' in text(client.get(address))

    wrong = client.post(address, {"username": member.username, "password": "wrong"})
    assert 'role="alert"' in text(wrong)
    assert f'value="{member.username}"' in text(wrong)

    fields = {"username": member.username, "password": PASSWORD, "next": flow_page(flow) + "?execution=1"}
    assert client.post(reverse("login"), fields)["Location"] == flow_page(flow) + "?execution=1"
    assert client.get(flow_page(flow)).status_code == 200


def test_nobody_is_sent_elsewhere_after_signing_in(member: User) -> None:
    fields = {"username": member.username, "password": PASSWORD, "next": "https://elsewhere.example/"}
    assert Client().post(reverse("login"), fields)["Location"] == reverse("flow-list-page")


def test_the_list_asks_to_sign_in_and_signing_out_needs_a_post(browser: Client) -> None:
    assert browser.get(reverse("logout")).status_code == 405
    assert browser.post(reverse("logout"))["Location"] == reverse("login")
    assert browser.get("/").status_code == 302


def test_a_strangers_flow_is_the_same_404_as_a_missing_one(browser: Client) -> None:
    foreign = make_flow(make_organization())
    answers = [browser.get(address) for address in (flow_page(foreign), f"/flows/{MISSING}/", "/no-such-page/")]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert "There is nothing here" in text(answers[0])


def test_the_list_has_the_flows_of_the_persons_organizations_only(browser: Client, organization: Organization) -> None:
    make_flow(organization, display_name="Ours")
    make_flow(make_organization(), display_name="Theirs")
    page = text(browser.get("/"))
    assert "Ours" in page
    assert "Theirs" not in page


def test_pages_are_not_stored_by_browsers(browser: Client, organization: Organization) -> None:
    for address in ("/", flow_page(make_flow(organization))):
        assert "no-store" in browser.get(address)["Cache-Control"]


# --- What they say ---


def test_the_list_tells_how_the_last_runs_went(browser: Client, organization: Organization) -> None:
    flow = make_flow(organization, "read", "check", "report")
    for outcome in ("completed", "failed", "running"):
        report(flow, make_execution(flow), ("read", "completed"), ("check", "completed"), ("report", outcome))
    newest = make_execution(flow)
    document = Document(text(browser.get("/")))
    marks = [attributes for _, attributes in document.elements if attributes.get("class") == "mark"]
    assert [mark["data-state"] for mark in marks] == ["completed", "failed", "running", "queued"]
    assert marks[-1]["href"] == reverse("execution-page", args=[newest.pk])
    assert re.fullmatch(r"Run 2: failed, \d+ ms", marks[1]["title"])
    assert marks[3]["title"] == "Run 4: queued"
    page = text(browser.get("/"))
    assert "1 running" in page
    assert "1 of 2" in page


def test_the_list_shows_the_last_twenty_runs_and_no_more(browser: Client, organization: Organization) -> None:
    flow = make_flow(organization)
    for _ in range(22):
        make_execution(flow)
    marks = re.findall(r"Run (\d+): queued</span>", text(browser.get("/")))
    assert marks == [str(number) for number in range(3, 23)]


def test_the_list_shows_fewer_runs_of_flows_with_very_many_tasks(
    browser: Client, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowplatform.pages.flows.TASKS_COUNTED", 7)
    for _ in range(2):
        flow = make_flow(organization, "read", "check", "report")
        for _ in range(4):
            make_execution(flow)
    marks = re.findall(r"Run (\d+): queued</span>", text(browser.get("/")))
    assert marks == ["3", "4", "3", "4"]  # the newest of both in any case, and of the others the first that fit


def test_the_list_passes_over_deleted_runs(browser: Client, organization: Organization) -> None:
    flow = make_flow(organization)
    kept, deleted = make_execution(flow), make_execution(flow)
    delete_execution(actor=make_actor(organization), execution_id=deleted.pk)
    page = text(browser.get("/"))
    assert str(kept.pk) in page
    assert str(deleted.pk) not in page


def test_the_flow_with_the_newest_run_comes_first(browser: Client, organization: Organization) -> None:
    older, newer = make_flow(organization, display_name="older"), make_flow(organization, display_name="newer")
    flows = re.compile(r"<span>(older|newer)</span>")
    assert flows.findall(text(browser.get("/"))) == ["newer", "older"]
    make_execution(newer)
    make_execution(older)
    assert flows.findall(text(browser.get("/"))) == ["older", "newer"]


def test_the_list_runs_as_many_statements_for_20_flows_as_for_1(browser: Client, organization: Organization) -> None:
    def count() -> int:
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert browser.get("/").status_code == 200
        return len(queries)

    report(flow := make_flow(organization), make_execution(flow), ("extract", "running"))
    with_one = count()
    for _ in range(19):
        report(flow := make_flow(organization), make_execution(flow), ("extract", "completed"), ("classify", "failed"))
    assert count() == with_one


def test_more_flows_than_fit_come_in_pages(
    browser: Client, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowplatform.pages.flows.FLOWS_PER_PAGE", 1)
    make_flow(organization, display_name="first made")
    make_flow(organization, display_name="last made")
    assert "last made" in text(browser.get("/"))
    assert "first made" in text(browser.get("/?page=2"))
    assert "first made" in text(browser.get("/?page=99"))


def test_a_flow_says_where_its_sockets_are_only_if_that_is_another_port(
    browser: Client, organization: Organization, settings: Settings
) -> None:
    address = flow_page(make_flow(organization))
    assert "data-sockets-port" not in text(browser.get(address))
    settings.SOCKETS_PORT = 8001
    assert list(Document(text(browser.get(address))).attributes("data-sockets-port")) == ["8001"]


def test_names_are_text(browser: Client, organization: Organization) -> None:
    flow = make_flow(organization, display_name="<script>alert('x')</script>")
    for address in ("/", flow_page(flow)):
        page = text(browser.get(address))
        assert "&lt;script&gt;alert(" in page
        Document(page)  # refuses inline code


def test_someone_without_an_organization_is_told_so(db: None) -> None:
    client = Client()
    client.force_login(User.objects.create_user("newcomer"))
    assert "You are not a member of an organization yet" in text(client.get("/"))


# --- The commands of the empty states ---


def run_pasted(page: str, organization: Organization) -> Any:
    """Do what a shell would do with the page's command, with a token of ours; return the answer."""
    (command,) = Document(page).commands
    token, curl = command.split("\n", 1)
    assert f"create_service_token --organization {organization.slug} " in token
    words = shlex.split(curl.replace("$TOKEN", make_token(organization)))
    assert words[:2] == ["curl", words[1]]
    assert words[1].startswith("http://testserver/api/")
    headers = dict(words[i + 1].split(": ", 1) for i, word in enumerate(words) if word == "-H")
    content_type = headers.pop("Content-Type")
    body = words[words.index("-d") + 1].encode()
    return Api()("POST", words[1].removeprefix("http://testserver"), body, content_type=content_type, **headers)


def test_the_command_of_the_empty_list_registers_a_flow(browser: Client, organization: Organization) -> None:
    answer = run_pasted(text(browser.get("/")), organization)
    assert answer.status_code == 201
    assert answer.json()["display_name"] in text(browser.get("/"))


def test_the_command_of_a_flow_without_runs_starts_one(browser: Client, organization: Organization) -> None:
    flow = make_flow(organization)
    answer = run_pasted(text(browser.get(flow_page(flow))), organization)
    assert answer.status_code == 201
    assert answer.json()["flow_id"] == str(flow.pk)


# --- What they are made of ---


def every_page(browser: Client, organization: Organization) -> Iterator[str]:
    yield text(Client().get(reverse("login")))
    yield text(Client().post(reverse("login"), {"username": "x", "password": "y"}))
    yield text(browser.get("/"))
    flow = make_flow(organization)
    yield text(browser.get(flow_page(flow)))
    report(flow, make_execution(flow), ("extract", "running"))
    yield text(browser.get("/"))
    yield text(browser.get(flow_page(flow)))
    yield text(browser.get(flow_page(flow), {"tab": "graph"}))
    yield text(browser.get(flow_page(flow), {"tag": "no:such"}))
    for code in (400, 403, 404, 500, 503):
        yield render_to_string(f"{code}.html", {"request_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"})


def test_no_page_needs_inline_code_or_another_host(browser: Client, organization: Organization) -> None:
    for page in every_page(browser, organization):
        document = Document(page)
        for tag, attributes in document.elements:
            assert tag != "style"
            assert tag != "script" or "src" in attributes or attributes["type"] == "application/json"
            assert not [name for name in attributes if name == "style" or name.startswith("on")]
        for address in [*document.attributes("src"), *document.attributes("href"), *document.attributes("action")]:
            assert address.startswith(("/", "?", "#"))
            assert not address.startswith("//")


def test_every_file_that_a_page_or_a_module_asks_for_exists(browser: Client, organization: Organization) -> None:
    pending = {
        address.removeprefix(STATIC)
        for page in every_page(browser, organization)
        for name in ("src", "href")
        for address in Document(page).attributes(name)
        if address.startswith(STATIC)
    }
    seen: set[Path] = set()
    while pending:
        name = pending.pop()
        found = finders.find(name)
        assert found, name
        if name.endswith(".js") and Path(found) not in seen:
            seen.add(Path(found))
            imports = re.findall(r'from "(\.[^"]+)"', Path(found).read_text())
            pending |= {_resolved(name, imported) for imported in imports}
    assert len(seen) > 10


def _resolved(importer: str, imported: str) -> str:
    """Return the static name of a module that another one imports, as the browser makes it from their addresses."""
    parts = importer.split("/")[:-1]
    for part in imported.split("/"):
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def test_error_pages_ask_neither_session_nor_database(django_assert_num_queries: Any, db: None) -> None:
    with django_assert_num_queries(0):
        page = render_to_string("500.html", {"request_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"})
    assert "01ARZ3NDEKTSV4RRFFQ69G5FAV" in page
