"""Staff look at everything, make and end tokens, and restore tags; nobody edits history by hand."""

import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, Permission
from django.contrib.sessions.models import Session
from django.contrib.staticfiles import finders
from django.db import DataError, connection, models
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from executions.models import ExecutionStatus, FlowExecution, TaskExecution, TaskStatus, WaitingTask
from flowplatform import admin_lists
from flowplatform.accounts.models import SCOPES, Membership, Organization, ServiceAccount, ServiceToken, User
from flowplatform.accounts.services import ensure_member
from flowplatform.audit.models import Record
from notifications import admin as notifications_admin
from notifications import relay, retry
from notifications.layer import layer_sender
from notifications.models import Event, Stream
from notifications.relay import number_pending
from tags.models import TaskTag
from tests.builders import Api, make_execution, make_flow, make_member, make_organization, make_token, statuses

OURS = ("accounts", "audit", "executions", "idempotency", "notifications", "tags")
MODELS = [model for label in OURS for model in apps.get_app_config(label).get_models()]
BY_ID = [model for model in MODELS if model._meta.model_name not in ("servicetoken", "idempotencykey")]
TOKENS = "/admin/accounts/servicetoken/"
TAGS = "/admin/tags/tasktag/"
STREAMS = "/admin/notifications/stream/"
EVENTS = "/admin/notifications/event/"

each_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)


def list_of(model: type[models.Model]) -> str:
    return f"/admin/{model._meta.app_label}/{model._meta.model_name}/"


def add_tag(api: Api, execution_id: str, operation: str = "add") -> None:
    tag = {"flow_execution_id": execution_id, "task_name": "extract", "tag": "approved", "tag_type": "review"}
    assert api("PATCH", "/api/task-tags", {"tags": [{"operation": operation, **tag}]}).status_code == 200


def make_removed_tag(organization: Organization) -> TaskTag:
    api = Api(make_token(organization))
    execution = make_execution(make_flow(organization))
    for operation in ("add", "remove"):
        add_tag(api, str(execution.pk), operation)
    return TaskTag.objects.get(flow_execution=execution)


def make_one_of_each(organization: Organization) -> FlowExecution:
    """Make a row of every model, of this organization."""
    user = User.objects.create(username=f"member-of-{uuid4()}")  # no password: hashing thirty takes its time
    ensure_member(user=user, organization=organization, role="member")
    api = Api(make_token(organization))
    execution = make_execution(make_flow(organization))
    path = f"/api/flow-executions/{execution.pk}/task-status"
    api.post(path, statuses(("extract", "requires_review")), **{"Idempotency-Key": str(execution.pk)})
    add_tag(api, str(execution.pk))
    TaskExecution.objects.create(
        organization=organization,
        flow_execution=execution,
        task_name="classify",
        task_execution_idx=0,
        processing_status="running",
        created_at=timezone.now(),
        updated_at=timezone.now(),
        modified_by="service:doc-3",
    )
    return execution


def keys() -> dict[type[models.Model], set[Any]]:
    return {model: set(model._default_manager.values_list("pk", flat=True)) for model in MODELS}


def listed(response: HttpResponse) -> set[Any]:
    assert response.status_code == 200
    return {row.pk for row in response.context["cl"].result_list}  # type: ignore[attr-defined]


def of(organization: Organization) -> dict[str, str]:
    return {"organization": str(organization.pk)}


def text(response: HttpResponse) -> str:
    """Return what a page says, without its markup."""
    return " ".join(re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", response.content.decode(), flags=re.DOTALL).split())


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create(username="staff", is_staff=True, is_superuser=True))
    return client


def staff_who_may(*permissions: str) -> Client:
    """A staff member with these permissions, such as `view_tasktag`, and no others."""
    user = User.objects.create(username="limited", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    assert user.user_permissions.count() == len(permissions)
    client = Client()
    client.force_login(user)
    return client


# --- Every list ----------------------------------------------------------------------------------------------------


@each_model
def test_every_model_has_a_list_a_search_and_a_page(
    staff: Client, organization: Organization, model: type[models.Model]
) -> None:
    make_one_of_each(organization)
    base = list_of(model)
    assert staff.get(base).status_code == 200
    row = model._default_manager.first()
    assert row is not None
    assert staff.get(f"{base}{admin.utils.quote(row.pk)}/change/").status_code == 200


@each_model
def test_no_search_term_is_an_error(staff: Client, model: type[models.Model]) -> None:
    for term in (str(uuid4()), "no-uuid", 'two "quoted words"', '"', "%", "caf\u00e9", "\0"):
        assert staff.get(list_of(model), {"q": term}).status_code == 200, term


@each_model
def test_no_choice_of_a_filter_is_an_error(staff: Client, model: type[models.Model]) -> None:
    names = [field.name for field in model._meta.fields if isinstance(field, models.CharField)]
    for name in ("organization", "type", *(f"{name}__exact" for name in names)):
        for value in ("\0", "no-such"):
            answer = staff.get(list_of(model), {name: value}, follow=True)
            assert answer.status_code < 500, name  # 400 for what is no filter, like passwords


def test_no_word_that_an_organization_is_looked_for_by_is_an_error(staff: Client) -> None:
    field = {"app_label": "accounts", "model_name": "membership", "field_name": "organization"}
    assert staff.get("/admin/autocomplete/", {"term": "\0", **field}).json()["results"] == []


@pytest.mark.parametrize("model", BY_ID, ids=lambda model: model.__name__)
def test_an_id_is_looked_up_as_an_id_and_not_as_text(staff: Client, model: type[models.Model]) -> None:
    with CaptureQueriesContext(
        connection,
    ) as queries:
        assert staff.get(list_of(model), {"q": str(uuid4())}).status_code == 200
    assert not [query["sql"] for query in queries if "LIKE" in query["sql"]]


def test_the_search_finds_rows_by_the_ids_and_words_that_staff_have(staff: Client, organization: Organization) -> None:
    execution, other = make_one_of_each(organization), make_one_of_each(make_organization())
    finds = {
        "accounts/organization": organization.pk,
        "executions/flow": execution.flow_id,
        "executions/flowversion": execution.flow_id,
        "executions/flowexecution": execution.pk,
        "executions/taskstatus": execution.pk,
        "executions/taskoutput": execution.pk,
        "executions/taskexecution": execution.pk,
        "executions/waitingtask": execution.pk,
        "notifications/stream": execution.flow_id,
        "tags/tasktag": execution.pk,
        "idempotency/idempotencykey": execution.pk,
    }
    for place, wanted in finds.items():
        assert len(listed(staff.get(f"/admin/{place}/", {"q": str(wanted)}))) == 1, place
    events = Event.objects.filter(flow_id=execution.flow_id)
    assert listed(staff.get(EVENTS, {"q": str(execution.flow_id)})) == set(events.values_list("pk", flat=True)) != set()
    events = Event.objects.filter(flow_execution_id=other.pk)
    assert listed(staff.get(EVENTS, {"q": str(other.pk)})) == set(events.values_list("pk", flat=True)) != set()
    TaskTag.objects.filter(flow_execution=other).update(tag="Rejected twice", task_name="scan")
    theirs = set(TaskTag.objects.filter(flow_execution=other).values_list("pk", flat=True))
    for words in ("reject", "twice rejected", '"rejected twice"', "scan", "rejected scan"):
        assert listed(staff.get(TAGS, {"q": words})) == theirs, words
    assert listed(staff.get(TAGS, {"q": '"twice rejected"'})) == set()
    for base in (STREAMS, EVENTS, list_of(TaskStatus)):  # they know no words
        assert listed(staff.get(base, {"q": "extract"})) == set()


def test_every_list_is_filtered_by_organization(staff: Client) -> None:
    rows = {}
    for organization in (make_organization(), make_organization()):
        before = keys()
        make_one_of_each(organization)
        rows[str(organization.pk)] = {model: new - before[model] for model, new in keys().items()}
        theirs = Record.objects.filter(organization_id=organization.pk)  # what is recorded of users is nobody's
        rows[str(organization.pk)][Record] = set(theirs.values_list("pk", flat=True))
    for model in (model for model in MODELS if model is not Organization):
        for organization_id, ours in rows.items():
            assert ours[model], model
            assert listed(staff.get(list_of(model), {"organization": organization_id})) == ours[model], model
            assert ours[model] <= listed(staff.get(list_of(model))), model
        assert staff.get(list_of(model), {"organization": "no-uuid"})["Location"].endswith("?e=1"), model


def test_accounts_and_tokens_of_the_system_are_found_by_the_filter(staff: Client, organization: Organization) -> None:
    theirs, systems = (ServiceToken.objects.get(prefix=make_token(owner)[:8]) for owner in (organization, None))
    tokens = listed(staff.get(TOKENS, {"acts_in": "every"}))
    accounts = listed(staff.get(list_of(ServiceAccount), {"acts_in": "every"}))
    assert systems.pk in tokens
    assert systems.service_account_id in accounts
    assert theirs.pk not in tokens
    assert theirs.service_account_id not in accounts


@pytest.fixture
def counted(staff: Client) -> Any:
    def count(path: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert staff.get(path).status_code == 200
        return len(queries)

    return count


def test_a_list_of_30_rows_runs_as_many_queries_as_one_of_2(staff: Client, counted: Any) -> None:
    def grow(times: int) -> None:
        for _ in range(times):
            make_one_of_each(make_organization())

    grow(2)
    counted(list_of(Organization))  # content types are read once in a process
    few = {model.__name__: counted(list_of(model)) for model in MODELS}
    grow(28)
    assert {model.__name__: counted(list_of(model)) for model in MODELS} == few


@pytest.mark.parametrize("model", [TaskStatus, Event], ids=lambda model: model.__name__)
def test_a_long_list_is_not_counted_to_its_end_and_says_so(
    staff: Client, organization: Organization, model: type[models.Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin_lists, "COUNTED", 4)
    make_one_of_each(organization)
    assert "The list ends" not in text(staff.get(list_of(model), {"organization": str(organization.pk)}))
    execution = make_execution(make_flow(organization))
    path = f"/api/flow-executions/{execution.pk}/task-status"
    for _ in range(4):
        Api(make_token(organization)).post(path, statuses(("extract", "running")))
    with CaptureQueriesContext(connection) as queries:
        page = text(staff.get(list_of(model)))
    assert "The list ends after 4 rows. Search or filter to reach what is older." in page
    counts = [query["sql"] for query in queries if "COUNT(" in query["sql"] and model._meta.db_table in query["sql"]]
    assert counts
    assert all("LIMIT 4" in sql for sql in counts)


def test_history_cannot_be_changed_or_deleted_in_the_admin(staff: Client, organization: Organization) -> None:
    execution = make_one_of_each(organization)
    row = TaskStatus.objects.get(flow_execution=execution)
    base = f"/admin/executions/taskstatus/{row.pk}"
    assert staff.post(f"{base}/change/", {"status": "completed"}).status_code == 403
    assert staff.post(f"{base}/delete/", {"post": "yes"}).status_code == 403
    assert staff.get("/admin/executions/taskstatus/add/").status_code == 403


@each_model
def test_staff_without_permissions_get_no_list(db: None, model: type[models.Model]) -> None:
    nobody = staff_who_may()
    assert nobody.get(list_of(model)).status_code == 403
    assert list_of(model) not in nobody.get("/admin/").content.decode()


def test_people_without_the_staff_flag_are_sent_to_sign_in(organization: Organization) -> None:
    client = Client()
    client.force_login(make_member(organization, "admin"))
    for path in ("/admin/", f"{TOKENS}add/", EVENTS):
        assert client.get(path).status_code == 302


def addresses(organization: Organization) -> Iterator[str]:
    """Yield every list, a page of each model, and the forms."""
    make_one_of_each(organization)
    yield from ("/admin/", "/admin/?window=day", "/admin/login/", "/admin/password_change/")
    for model in (*MODELS, Group):
        yield list_of(model)
        if row := model._default_manager.first():
            yield f"{list_of(model)}{admin.utils.quote(row.pk)}/change/"
            yield f"{list_of(model)}{admin.utils.quote(row.pk)}/history/"
    for model in (Organization, User, Membership, ServiceAccount, ServiceToken, Group):
        yield f"{list_of(model)}add/"


def test_no_page_has_code_or_styles_in_its_html(staff: Client, organization: Organization) -> None:
    Group.objects.create(name="reviewers")
    for address in addresses(organization):
        page = staff.get(address)
        assert page.status_code in (200, 302), address
        document = Markup(page.content.decode())
        assert not document.inline, (address, document.inline)
        for tag, attributes in document.elements:
            assert tag != "style", address
            assert not [name for name in attributes if name == "style" or name.startswith("on")], (address, attributes)


class Markup(HTMLParser):
    """The elements of a page, and what its scripts say in place; data for scripts is no code."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.inline: list[str] = []
        self._is_code = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._is_code = tag == "style" or (tag == "script" and dict(attrs).get("type") != "application/json")

    def handle_endtag(self, tag: str) -> None:
        self._is_code = False

    def handle_data(self, data: str) -> None:
        if self._is_code and data.strip():
            self.inline.append(data)


def test_the_alpine_that_is_served_compiles_no_text() -> None:
    served = finders.find("unfold/js/alpine/alpine.js")
    assert isinstance(served, str)
    text_of_it = Path(served).read_text()
    assert "flowplatform/static" in served
    assert not re.search(r"new Function|AsyncFunction\(|\beval\(", text_of_it)
    note = Path(served).with_name("ALPINE-CSP.md").read_text()
    assert hashlib.sha256(Path(served).read_bytes()).hexdigest() in note
    assert "Permission is hereby granted" in note


def test_the_menu_leads_to_every_list_and_to_the_pages(staff: Client) -> None:
    page = staff.get("/admin/").content.decode()
    for model in MODELS:
        assert f'href="{list_of(model)}"' in page, model
    assert re.search(r'<a href="/"[^>]*>\s*View site', page)


def test_an_execution_leads_to_its_page_its_history_its_attempts_and_its_tags(
    staff: Client, organization: Organization
) -> None:
    execution = make_one_of_each(organization)
    for path in ("", f"{execution.pk}/change/"):
        page = staff.get(f"/admin/executions/flowexecution/{path}").content.decode()
        assert f'href="/executions/{execution.pk}/"' in page
        for place in ("executions/taskstatus", "executions/taskexecution", "tags/tasktag"):
            assert f'href="/admin/{place}/?q={execution.pk}"' in page
            assert listed(staff.get(f"/admin/{place}/?q={execution.pk}"))


def test_nothing_leads_to_the_page_of_a_deleted_execution(staff: Client, organization: Organization) -> None:
    execution = make_one_of_each(organization)
    FlowExecution.objects.filter(pk=execution.pk).update(status=ExecutionStatus.DELETED)
    lists = ("flowexecution", "taskstatus", "taskexecution", "taskoutput", "waitingtask")
    for path in (*(f"executions/{name}/" for name in lists), "tags/tasktag/"):
        page = staff.get(f"/admin/{path}")
        assert listed(page)
        assert f'href="/executions/{execution.pk}/"' not in page.content.decode()


def test_the_list_of_what_waits_tells_what_is_settled(staff: Client, organization: Organization) -> None:
    api = Api(make_token(organization))
    runs = [make_execution(make_flow(organization)) for _ in range(3)]
    for run in runs:
        api.post(f"/api/flow-executions/{run.pk}/task-status", statuses(("extract", "requires_review")))
    decided, over, waits = (WaitingTask.objects.get(flow_execution=run).pk for run in runs)
    add_tag(api, str(runs[0].pk))
    FlowExecution.objects.filter(pk=runs[1].pk).update(status=ExecutionStatus.CANCELLED)

    def found(**query: object) -> set[Any]:
        return listed(staff.get("/admin/executions/waitingtask/", {**of(organization), **query}))

    assert found() == {decided, over, waits}
    assert found(is_decided__exact=1) == {decided}
    assert found(is_over__exact=1) == {over}
    assert found(is_decided__exact=0, is_over__exact=0) == {waits}


def test_an_organization_shows_its_members_its_programs_and_its_flows(
    staff: Client, organization: Organization
) -> None:
    make_member(make_organization(), username="stranger")
    make_member(organization, username="colleague")
    account = ServiceAccount.objects.create(organization=organization, name="doc-7")
    make_flow(organization)
    page = text(staff.get(f"{list_of(Organization)}{organization.pk}/change/"))
    assert "colleague" in page
    assert "stranger" not in page
    assert account.name in page
    (row,) = staff.get(list_of(Organization), {"q": str(organization.pk)}).context["cl"].result_list
    assert (row.member_count, row.flows_count) == (1, 1)
    assert row.account_count == organization.service_accounts.count()


# --- Tokens --------------------------------------------------------------------------------------------------------


@pytest.fixture
def account(organization: Organization) -> ServiceAccount:
    return ServiceAccount.objects.create(organization=organization, name="doc-3")


def new_token(client: Client, account: ServiceAccount, **fields: Any) -> HttpResponse:
    form = {"service_account": str(account.pk), "scopes": ["read", "status:write"], "expires_in_days": "", **fields}
    response = client.post(f"{TOKENS}add/", form)
    assert isinstance(response, HttpResponse)
    return response


def shown_token(response: HttpResponse) -> str:
    assert response.status_code == 200
    tokens = re.findall(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{40}", response.content.decode())
    assert len(tokens) == 1, text(response)
    return str(tokens[0])


def stored_texts() -> Iterator[str]:
    """Every row of every table as text, and the sessions as they read when decoded."""
    for model in apps.get_models():
        yield from map(str, model._default_manager.values())
    yield from (str(session.get_decoded()) for session in Session.objects.all())


def test_a_token_made_in_the_admin_is_shown_and_works(staff: Client, account: ServiceAccount) -> None:
    response = new_token(staff, account)
    assert "it will not be shown again" in text(response)
    raw = shown_token(response)
    token = ServiceToken.objects.get(prefix=raw[:8])
    assert (token.service_account, token.scopes, token.expiry_date) == (account, ["read", "status:write"], None)
    assert Api(raw).get("/api/flows").status_code == 200
    assert Api(raw).post("/api/flows", {}).status_code == 403  # the scopes are those that were chosen


def test_a_new_token_is_shown_once(staff: Client, account: ServiceAccount) -> None:
    raw = shown_token(new_token(staff, account))
    token = ServiceToken.objects.get(prefix=raw[:8])
    row = f"{TOKENS}{admin.utils.quote(token.pk)}"
    for path in (f"{TOKENS}add/", TOKENS, f"{row}/change/", f"{row}/history/", "/admin/"):
        page = staff.get(path)
        assert page.status_code == 200, path
        assert raw[9:] not in page.content.decode(), path
    assert ServiceToken.objects.filter(service_account=account).count() == 1


def test_the_text_of_a_new_token_is_stored_nowhere(staff: Client, account: ServiceAccount) -> None:
    response = new_token(staff, account)
    secret = shown_token(response)[9:]
    assert "no-store" in response["Cache-Control"]  # nor by the browser
    assert not [row for row in stored_texts() if secret in row]
    assert secret not in f"{response.cookies.output()}{staff.cookies.output()}"
    assert [row for row in stored_texts() if ServiceToken.objects.get(service_account=account).hashed_key in row]


def test_the_log_says_who_made_which_token_and_who_ended_it(staff: Client, account: ServiceAccount) -> None:
    prefix = shown_token(new_token(staff, account, expires_in_days="30"))[:8]
    token = ServiceToken.objects.get(prefix=prefix)
    staff.post(TOKENS, {"action": "revoke", "_selected_action": [token.pk]})
    ended, made = LogEntry.objects.filter(object_id=token.pk).order_by("-pk")
    assert {made.user.username, ended.user.username} == {"staff"}
    assert (made.is_addition(), ended.is_change()) == (True, True)
    assert f"{prefix} of doc-3 in {account.organization}: read, status:write, until 20" in made.get_change_message()
    assert ended.get_change_message() == f"Revoked the token {prefix}."


def test_a_token_ends_after_the_days_that_were_asked_for(staff: Client, account: ServiceAccount) -> None:
    token = ServiceToken.objects.get(prefix=shown_token(new_token(staff, account, expires_in_days="30"))[:8])
    assert token.expiry_date is not None
    assert timedelta(days=29) < token.expiry_date - timezone.now() <= timedelta(days=30)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("scopes", []),
        ("scopes", ["everything"]),
        ("expires_in_days", "0"),
        ("expires_in_days", "-1"),
        ("expires_in_days", "36501"),
        ("expires_in_days", "soon"),
        ("service_account", ""),
        ("service_account", "01890a5d-ac96-774b-bcce-b302099a8057"),
    ],
)
def test_what_is_wrong_with_a_new_token_is_said_at_its_field(
    staff: Client, account: ServiceAccount, field: str, value: Any
) -> None:
    response = new_token(staff, account, **{field: value})
    assert response.status_code == 200
    assert list(response.context["adminform"].errors) == [field]  # type: ignore[attr-defined]
    assert not ServiceToken.objects.filter(service_account=account).exists()


def test_the_form_offers_every_scope_and_says_what_a_system_account_is(
    staff: Client, organization: Organization
) -> None:
    page = staff.get(f"{TOKENS}add/")
    assert re.findall(r'type="checkbox" name="scopes" value="([^"]*)"', page.content.decode()) == list(SCOPES)
    assert "a system account) acts in every organization" in text(page)
    assert "_addanother" not in page.content.decode()
    system = ServiceAccount.objects.create(organization=None, name="everywhere")
    response = new_token(staff, system)
    assert "acts as everywhere in every organization" in text(response)
    make_flow(organization, display_name="Theirs")
    assert "Theirs" in Api(shown_token(response)).get("/api/flows").content.decode()


def test_the_account_of_a_token_is_chosen_with_its_organization_in_sight(
    staff: Client, account: ServiceAccount
) -> None:
    namesake = ServiceAccount.objects.create(organization=make_organization(), name="doc-3")
    query = {"app_label": "accounts", "model_name": "servicetoken", "field_name": "service_account"}
    answer = staff.get("/admin/autocomplete/", {"term": "doc-3", **query}).json()
    names = [choice["text"] for choice in answer["results"]]
    assert {f"doc-3 in {account.organization}", f"doc-3 in {namesake.organization}"} <= set(names)


def test_an_account_stays_in_its_organization(staff: Client, account: ServiceAccount) -> None:
    home, elsewhere = account.organization, make_organization()
    path = f"{list_of(ServiceAccount)}{account.pk}/change/"
    for organization in (str(elsewhere.pk), ""):
        assert staff.post(path, {"name": "doc-4", "organization": organization}).status_code == 302
        account.refresh_from_db()
        assert (account.name, account.organization) == ("doc-4", home)


def test_staff_who_may_only_look_neither_make_nor_end_tokens(account: ServiceAccount) -> None:
    raw = make_token(account.organization)
    token = ServiceToken.objects.get(prefix=raw[:8])
    looking = staff_who_may("view_servicetoken", "view_serviceaccount")
    page = looking.get(TOKENS)
    assert token.prefix in text(page)
    assert f"{TOKENS}add/" not in page.content.decode()
    assert "revoke" not in page.content.decode().replace("revoked", "")
    assert looking.get(f"{TOKENS}add/").status_code == 403
    assert new_token(looking, account).status_code == 403
    looking.post(TOKENS, {"action": "revoke", "_selected_action": [token.pk]})
    assert not ServiceToken.objects.filter(service_account=account).exists()
    assert Api(raw).get("/api/flows").status_code == 200


def test_staff_who_may_add_tokens_need_no_more_to_make_one(account: ServiceAccount) -> None:
    raw = shown_token(new_token(staff_who_may("add_servicetoken"), account))
    assert Api(raw).get("/api/flows").status_code == 200


def test_a_token_is_revoked_by_an_action(staff: Client, organization: Organization) -> None:
    raw = make_token(organization)
    token = ServiceToken.objects.get(prefix=raw[:8])
    assert staff.get(f"{TOKENS}{admin.utils.quote(token.pk)}/change/").status_code == 200
    for count in (1, 0):
        answer = staff.post(TOKENS, {"action": "revoke", "_selected_action": [token.pk]}, follow=True)
        assert f"Tokens revoked: {count}." in text(answer)
        assert Api(raw).get("/api/flows").status_code == 401


def revoke_button(token: ServiceToken) -> str:
    return f"{TOKENS}{admin.utils.quote(token.pk)}/revoke/"


def test_a_token_is_revoked_by_one_press_in_its_row_or_on_its_page(staff: Client, organization: Organization) -> None:
    for path in (TOKENS, "{page}"):
        raw = make_token(organization)
        token = ServiceToken.objects.get(prefix=raw[:8])
        here = path.format(page=f"{TOKENS}{admin.utils.quote(token.pk)}/change/")
        assert f'form="post-button" formaction="{revoke_button(token)}"' in staff.get(here).content.decode()
        answer = staff.post(revoke_button(token), headers={"referer": f"http://testserver{here}"})
        assert answer["Location"] == f"http://testserver{here}"
        page = staff.get(here)
        assert f"Revoked the token {raw[:8]}" in text(page)
        assert revoke_button(token) not in page.content.decode()
        assert Api(raw).get("/api/flows").status_code == 401
        (entry,) = LogEntry.objects.filter(object_id=token.pk)
        assert entry.get_change_message() == f"Revoked the token {raw[:8]}."


def test_revoking_wants_a_post_a_permission_and_the_form_of_the_page(staff: Client, organization: Organization) -> None:
    raw = make_token(organization)
    token = ServiceToken.objects.get(prefix=raw[:8])
    assert staff.get(revoke_button(token)).status_code == 405
    assert staff_who_may("view_servicetoken", "change_servicetoken").post(revoke_button(token)).status_code == 403
    stranger = Client(enforce_csrf_checks=True)
    stranger.force_login(User.objects.get(username="staff"))
    assert stranger.post(revoke_button(token)).status_code == 403
    assert staff.post(f"{TOKENS}no-such-token/revoke/").status_code == 404
    member = Client()
    member.force_login(make_member(organization, "admin"))
    assert member.post(revoke_button(token)).status_code == 302
    assert Api(raw).get("/api/flows").status_code == 200


def test_a_press_returns_to_pages_of_this_site_only(staff: Client, organization: Organization) -> None:
    token = ServiceToken.objects.get(prefix=make_token(organization)[:8])
    answer = staff.post(revoke_button(token), headers={"referer": "https://elsewhere.example/"})
    assert answer["Location"] == TOKENS


def test_tokens_tell_in_words_when_they_end_and_were_used(staff: Client, organization: Organization) -> None:
    def row_of(**facts: Any) -> str:
        prefix = make_token(organization)[:8]
        ServiceToken.objects.filter(prefix=prefix).update(**facts)
        return text(staff.get(TOKENS, {"q": prefix}))

    now = timezone.now()
    assert "valid never never" in row_of()
    assert "ends soon in 3 days 2 hours ago" in row_of(
        expiry_date=now + timedelta(days=3, minutes=1), last_used_at=now - timedelta(hours=2, minutes=1)
    )
    assert "expired expired 2 days ago" in row_of(expiry_date=now - timedelta(days=2, minutes=1))
    assert "revoked revoked just now" in row_of(revoked=True, revoked_at=now)


def test_tokens_are_found_by_their_state(staff: Client, organization: Organization) -> None:
    now = timezone.now()
    facts: dict[str, dict[str, Any]] = {
        "plain": {"last_used_at": now},
        "soon": {"expiry_date": now + timedelta(days=2), "last_used_at": now},
        "unused": {},
        "expired": {"expiry_date": now - timedelta(days=1)},
        "revoked": {"revoked": True},
    }
    pks = {}
    for name, changes in facts.items():
        tokens = ServiceToken.objects.filter(prefix=make_token(organization)[:8])
        tokens.update(**changes)
        pks[name] = tokens.get().pk
    found = {
        state: {
            name for name, pk in pks.items() if pk in listed(staff.get(TOKENS, {"state": state, **of(organization)}))
        }
        for state in ("valid", "soon", "unused", "expired", "revoked", "", "nonsense")
    }
    assert found == {
        "valid": {"plain", "soon", "unused"},
        "soon": {"soon"},
        "unused": {"unused"},
        "expired": {"expired"},
        "revoked": {"revoked"},
        "": set(facts),
        "nonsense": set(facts),
    }


# --- The backlog ---------------------------------------------------------------------------------------------------


@pytest.fixture
def quiet(db: None) -> None:
    """Nothing waits yet: what other tests committed is not in the outbox of this one."""
    Event.objects.filter(offset__isnull=True).delete()


def wait_for(seconds: float, flow_id: Any) -> None:
    """Have the events of the flow wait for so long."""
    Event.objects.filter(flow_id=flow_id).update(created_at=timezone.now() - timedelta(seconds=seconds))


@pytest.mark.parametrize("path", ["/admin/", STREAMS, EVENTS])
def test_the_backlog_is_told_at_a_glance(staff: Client, organization: Organization, path: str, quiet: None) -> None:
    assert "No event waits for a number." in text(staff.get(path))
    first, second = make_execution(make_flow(organization)), make_execution(make_flow(organization))
    wait_for(0, first.flow_id)
    wait_for(2, second.flow_id)
    waiting = Event.objects.filter(offset__isnull=True).count()
    page = staff.get(path)
    assert re.search(rf"{waiting} events of 2 flows wait for a number, the oldest for [2-4]\.\d s", text(page))
    assert "That is healthy" in text(page)
    assert "Fault" not in text(page)
    wait_for(200, second.flow_id)
    page = staff.get(path)
    assert f"Fault: {waiting} events of 2 flows wait for a number, the oldest for 0:03:2" in text(page)
    assert 'id="event-backlog" data-state="failed"' in page.content.decode()
    for execution in (first, second):
        list(number_pending([execution.flow_id]))
    assert "No event waits for a number." in text(staff.get(path))


def test_the_streams_say_what_waits_in_each(staff: Client, organization: Organization, quiet: None) -> None:
    flows = [make_execution(make_flow(organization)).flow for _ in range(3)]
    busy, late, idle = (flow.pk for flow in flows)
    for seconds, flow_id in ((1, busy), (20, late), (30, idle)):
        wait_for(seconds, flow_id)
    list(number_pending([idle]))
    make_execution(flows[1])  # just now: the column is about the oldest
    ours = {"organization": str(organization.pk)}
    page = staff.get(STREAMS, ours)
    found = {row.pk: row for row in page.context["cl"].result_list}
    assert [found[flow].waiting for flow in (busy, late, idle)] == [1, 2, 0]
    assert found[busy].oldest < timedelta(seconds=5) < timedelta(seconds=20) < found[late].oldest
    assert found[idle].oldest is None
    assert len(re.findall(r"2\d\.\d s \(fault\)", text(page))) == text(page).count("(fault)") == 1
    choices = {"waiting": {busy, late}, "late": {late}, "none": {idle}, "nonsense": {busy, late, idle}}
    for choice, rows in choices.items():
        assert listed(staff.get(STREAMS, {"backlog": choice, **ours})) == rows, choice
    by_waiting = staff.get(STREAMS, {"o": "-4", **ours}).context["cl"].result_list
    assert [row.pk for row in by_waiting] == [late, busy, idle]


def test_the_events_say_which_of_them_wait_and_for_how_long(
    staff: Client, organization: Organization, quiet: None
) -> None:
    execution = make_one_of_each(organization)
    list(number_pending([execution.flow_id]))
    numbered = set(Event.objects.filter(flow_id=execution.flow_id).values_list("pk", flat=True))
    add_tag(Api(make_token(organization)), str(execution.pk), "remove")
    (waiting,) = Event.objects.filter(flow_id=execution.flow_id, offset__isnull=True).values_list("pk", flat=True)
    Event.objects.filter(pk=waiting).update(created_at=timezone.now() - timedelta(seconds=90))
    ours = {"organization": str(organization.pk)}
    for choice, rows in {"waiting": {waiting}, "given": numbered, "nonsense": {waiting, *numbered}}.items():
        assert listed(staff.get(EVENTS, {"number": choice, **ours})) == rows, choice
    assert "waits for 0:01:3" in text(staff.get(EVENTS, ours))
    tags = set(Event.objects.filter(flow_id=execution.flow_id, type="task_tags.changed").values_list("pk", flat=True))
    assert "task_tags.changed" in text(staff.get(EVENTS))
    assert listed(staff.get(EVENTS, {"type": "task_tags.changed", **ours})) == tags


def test_the_backlog_is_not_told_to_staff_who_may_not_see_events(organization: Organization, quiet: None) -> None:
    make_execution(make_flow(organization))
    page = staff_who_may("view_tasktag").get("/admin/")
    assert page.status_code == 200
    assert "for a number" not in text(page)


def waiting_of(*flow_ids: Any) -> int:
    return Event.objects.filter(flow_id__in=flow_ids, offset__isnull=True).count()


def test_a_retry_numbers_what_waits_in_one_stream_in_the_selected_or_in_all(
    staff: Client, organization: Organization, quiet: None
) -> None:
    one, two, three, four = (make_execution(make_flow(organization)).flow_id for _ in range(4))
    page = staff.get(STREAMS).content.decode()
    assert f'formaction="{STREAMS}{one}/retry/"' in page
    assert f'formaction="{STREAMS}retry/"' in page
    assert "Numbered 1 event of 1 flow." in text(staff.post(f"{STREAMS}{one}/retry/", follow=True))
    assert [waiting_of(flow) for flow in (one, two, three, four)] == [0, 1, 1, 1]
    answer = staff.post(STREAMS, {"action": "retry_selected", "_selected_action": [str(one), str(two)]}, follow=True)
    assert "Numbered 1 event of 1 flow." in text(answer)
    assert [waiting_of(flow) for flow in (one, two, three, four)] == [0, 0, 1, 1]
    assert "Numbered 2 events of 2 flows." in text(staff.post(f"{STREAMS}retry/", follow=True))
    assert not waiting_of(one, two, three, four)
    assert Stream.objects.get(pk=four).offset == 1
    assert "No event waited" in text(staff.post(f"{STREAMS}retry/", follow=True))
    assert f'formaction="{STREAMS}retry/"' not in staff.get(STREAMS).content.decode()


def test_a_retry_works_without_the_broker_and_says_so(
    staff: Client, organization: Organization, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_sender, "send", lambda news: False)  # as it answers when Valkey is away
    flow_id = make_execution(make_flow(organization)).flow_id
    page = text(staff.post(f"{STREAMS}retry/", follow=True))
    assert "Numbered 1 event of 1 flow." in page
    assert "Valkey did not take them: live pages find them in the database within seconds." in page
    assert not waiting_of(flow_id)


def test_a_flow_that_cannot_be_relayed_does_not_hold_up_the_others_of_a_retry(
    staff: Client, organization: Organization, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, whole = (make_execution(make_flow(organization)).flow_id for _ in range(2))

    def number(flow_ids: Any, *, wait: bool = True) -> Any:
        if broken in flow_ids:
            raise DataError("this one")
        return number_pending(flow_ids, wait=wait)

    monkeypatch.setattr(retry, "number_pending", number)
    page = text(staff.post(f"{STREAMS}retry/", follow=True))
    assert "Numbered 1 event of 1 flow." in page
    assert "Could not be relayed: 1 flow." in page
    assert (waiting_of(broken), waiting_of(whole)) == (1, 0)


def test_a_retry_that_has_no_time_left_says_what_it_left(
    staff: Client, organization: Organization, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retry, "SECONDS", -1.0)
    flow_id = make_execution(make_flow(organization)).flow_id
    assert "for want of time: 1 flow. Press again." in text(staff.post(f"{STREAMS}retry/", follow=True))
    assert waiting_of(flow_id) == 1


def test_a_retry_looks_at_the_clock_after_every_batch(
    staff: Client, organization: Organization, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow_ids = [make_execution(make_flow(organization)).flow_id for _ in range(3)]

    ticks = iter((0.0, 0.0))
    monkeypatch.setattr(retry, "time", SimpleNamespace(monotonic=lambda: next(ticks, 99.0)))
    monkeypatch.setattr(relay, "FLOWS", 1)  # in one batch
    page = text(staff.post(f"{STREAMS}retry/", follow=True))
    assert "Numbered 1 event of 1 flow." in page
    assert "for want of time: 2 flows. Press again." in page
    assert waiting_of(*flow_ids) == 2


def test_a_retry_of_very_many_flows_says_that_more_may_be_left(
    staff: Client, organization: Organization, quiet: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (retry, notifications_admin):
        monkeypatch.setattr(module, "MOST", 2)
    flow_ids = [make_execution(make_flow(organization)).flow_id for _ in range(4)]
    page = text(staff.post(f"{STREAMS}retry/", follow=True))
    assert "Numbered 2 events of 2 flows." in page
    assert "at least 1 flow. Press again." in page
    assert waiting_of(*flow_ids) == 2


def test_a_retry_wants_a_post_and_a_permission(organization: Organization, staff: Client, quiet: None) -> None:
    flow_id = make_execution(make_flow(organization)).flow_id
    looking = staff_who_may("view_stream", "view_event")
    for path in ("/admin/", STREAMS):
        assert "/retry/" not in looking.get(path).content.decode()
    for path in (f"{STREAMS}retry/", f"{STREAMS}{flow_id}/retry/"):
        assert looking.post(path).status_code == 403
        assert staff.get(path).status_code == 405
    looking.post(STREAMS, {"action": "retry_selected", "_selected_action": [str(flow_id)]})
    assert waiting_of(flow_id) == 1


# --- Tags ----------------------------------------------------------------------------------------------------------


def test_a_removed_tag_is_restored_as_a_new_row(staff: Client, organization: Organization) -> None:
    removed = make_removed_tag(organization)
    staff.post(TAGS, {"action": "restore", "_selected_action": [removed.pk]})
    assert [(tag.status, tag.modified_by) for tag in TaskTag.objects.of_execution(removed.flow_execution_id)] == [
        ("deleted", removed.modified_by),
        ("active", "user:staff"),
    ]


def test_removed_tags_are_struck_through_and_say_who_removed_them(staff: Client, organization: Organization) -> None:
    removed = make_removed_tag(organization)
    ours = {"organization": str(organization.pk)}
    page = staff.get(TAGS, ours)
    assert "<s>approved</s>" in page.content.decode()
    assert f"removed {removed.modified_by}" in text(page)
    staff.post(TAGS, {"action": "restore", "_selected_action": [removed.pk]})
    (restored,) = TaskTag.objects.of_execution(removed.flow_execution_id).live()
    for status, row in (("deleted", removed), ("active", restored)):
        assert listed(staff.get(TAGS, {"status__exact": status, **ours})) == {row.pk}
    assert "<s>" not in staff.get(TAGS, {"status__exact": "active", **ours}).content.decode()


def test_restoring_says_what_became_of_every_selected_tag(staff: Client, organization: Organization) -> None:
    plain, of_deleted, standing = (make_removed_tag(organization) for _ in range(3))
    FlowExecution.objects.filter(pk=of_deleted.flow_execution_id).update(status=ExecutionStatus.DELETED)
    add_tag(Api(make_token(organization)), str(standing.flow_execution_id))
    live = TaskTag.objects.live().get(flow_execution=standing.flow_execution_id)
    rows = TaskTag.objects.count()
    selected = [tag.pk for tag in (plain, of_deleted, standing, live)]
    answer = text(staff.post(TAGS, {"action": "restore", "_selected_action": selected}, follow=True))
    assert "Restored: 1." in answer
    assert "Left alone, because the same tag stands: 2." in answer
    assert "Left alone, because the execution is deleted: 1." in answer
    assert TaskTag.objects.count() == rows + 1


def test_staff_who_may_only_look_restore_nothing(organization: Organization) -> None:
    removed = make_removed_tag(organization)
    looking = staff_who_may("view_tasktag")
    page = looking.get(TAGS)
    assert "approved" in text(page)
    assert "Restore" not in text(page)
    looking.post(TAGS, {"action": "restore", "_selected_action": [removed.pk]})
    assert TaskTag.objects.of_execution(removed.flow_execution_id).count() == 1


def test_the_stream_of_a_flow_is_found_before_its_first_event(staff: Client, organization: Organization) -> None:
    flow = make_flow(organization)
    assert listed(staff.get(STREAMS, {"q": str(flow.pk)})) == {Stream.objects.get(pk=flow.pk).pk}


def test_a_tag_is_restored_by_one_press_in_its_row_or_on_its_page(staff: Client, organization: Organization) -> None:
    for path in (TAGS, "{page}"):
        removed = make_removed_tag(organization)
        here = path.format(page=f"{TAGS}{removed.pk}/change/")
        button = f"{TAGS}{removed.pk}/restore/"
        assert f'formaction="{button}"' in staff.get(here).content.decode()
        assert staff.get(button).status_code == 405
        assert "Restored: 1." in text(staff.post(button, follow=True))
        assert [tag.status for tag in TaskTag.objects.of_execution(removed.flow_execution_id)] == ["deleted", "active"]
        assert "the same tag stands: 1." in text(staff.post(button, follow=True))
    assert staff_who_may("view_tasktag").post(button).status_code == 403


def test_the_page_of_a_tag_shows_the_trail_of_its_task_and_of_no_other(
    staff: Client, organization: Organization
) -> None:
    removed = make_removed_tag(organization)
    staff.post(f"{TAGS}{removed.pk}/restore/")
    other = {"task_name": "classify", "tag": "elsewhere", "tag_type": "review", "operation": "add"}
    api = Api(make_token(organization))
    api("PATCH", "/api/task-tags", {"tags": [{"flow_execution_id": str(removed.flow_execution_id), **other}]})
    theirs = make_removed_tag(make_organization())
    page = text(staff.get(f"{TAGS}{removed.pk}/change/"))
    assert f"by {removed.created_by}" in page
    assert f"by {removed.modified_by}" in page
    assert "by user:staff stands" in page
    assert "elsewhere" not in page
    assert theirs.created_by not in page
