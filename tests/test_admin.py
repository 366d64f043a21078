"""Staff look at everything, make and end tokens, and restore tags; nobody edits history by hand."""

import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.contrib.sessions.models import Session
from django.db import connection, models
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from executions.models import ExecutionStatus, FlowExecution, TaskExecution, TaskStatus
from flowplatform import admin_lists
from flowplatform.accounts.models import SCOPES, Organization, ServiceAccount, ServiceToken, User
from flowplatform.accounts.services import ensure_member
from notifications.models import Event, Stream
from notifications.relay import number_pending
from tags.models import TaskTag
from tests.builders import Api, make_execution, make_flow, make_member, make_organization, make_token, statuses

OURS = ("accounts", "executions", "idempotency", "notifications", "tags")
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
    api.post(path, statuses(("extract", "running")), **{"Idempotency-Key": str(execution.pk)})
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
    for model in (model for model in MODELS if model is not Organization):
        for organization_id, ours in rows.items():
            assert ours[model], model
            assert listed(staff.get(list_of(model), {"organization": organization_id})) == ours[model], model
            assert ours[model] <= listed(staff.get(list_of(model))), model
        assert staff.get(list_of(model), {"organization": "no-uuid"})["Location"].endswith("?e=1"), model


def test_accounts_and_tokens_of_the_system_are_found_by_the_filter(staff: Client, organization: Organization) -> None:
    theirs, systems = (ServiceToken.objects.get(prefix=make_token(owner)[:8]) for owner in (organization, None))
    tokens = listed(staff.get(TOKENS, {"organization": "system"}))
    accounts = listed(staff.get(list_of(ServiceAccount), {"organization": "system"}))
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
        ("service_account", str(uuid4())),
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
    assert '<li class="error">' in page.content.decode()
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
    by_waiting = staff.get(STREAMS, {"o": "-3", **ours}).context["cl"].result_list
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
