"""The audit record: what gets into it by the ways in which things really happen, and that nobody changes it."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from axes.models import AccessAttempt
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from executions.history import add_partitions
from executions.models import FlowExecution
from executions.removal import remove_deleted
from executions.tasks import keep_history
from flowplatform.accounts import refusals
from flowplatform.accounts.models import Membership, Organization, ServiceAccount, ServiceToken, User
from flowplatform.accounts.services import ensure_member
from flowplatform.accounts.sockets import visitor_of_scope
from flowplatform.audit import floods, sign_ins
from flowplatform.audit.authors import Author, Origin, requester
from flowplatform.audit.floods import MOST_SOURCES, Flood
from flowplatform.audit.models import DETAILS_BYTES, Record
from flowplatform.audit.retention import RECORD
from flowplatform.audit.tasks import keep_record
from flowplatform.audit.vocabulary import Action, Outcome
from flowplatform.audit.writing import Entry, acting, record
from flowplatform.monthly import month_of
from tags.schemas import TagOperation
from tags.services import change_task_tags
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
    without_id,
)
from tests.stack import ROOT
from tests.test_admin import TAGS, TOKENS, list_of, listed, new_token, revoke_button, shown_token, staff_who_may, text

RECORDS = "/admin/audit/record/"
MAY = datetime(2001, 5, 17, tzinfo=UTC)


@pytest.fixture(autouse=True)
def fresh_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a minute without refusals."""
    for module, names in ((refusals, ("_credentials", "_accesses")), (sign_ins, ("_failures", "_lockouts"))):
        for name in names:
            monkeypatch.setattr(module, name, Flood())
    monkeypatch.setattr(refusals, "_unknown", Flood(begins_at=refusals.UNKNOWN_IDS))


@pytest.fixture
def superuser(db: None) -> User:
    return User.objects.create(username="staff", is_staff=True, is_superuser=True)


@pytest.fixture
def staff(superuser: User) -> Client:
    client = Client()
    client.force_login(superuser)
    return client


@pytest.fixture
def execution(organization: Organization) -> FlowExecution:
    return make_execution(make_flow(organization))


class News:
    """What is recorded from here on."""

    def __init__(self) -> None:
        newest = Record.objects.order_by("-position").first()
        self._since = newest.position if newest else 0

    def __iter__(self) -> Iterator[Record]:
        return iter(Record.objects.filter(position__gt=self._since).order_by("position"))

    @property
    def actions(self) -> list[str]:
        return [record.action for record in self]

    def one(self, action: str) -> Record:
        (found,) = (record for record in self if record.action == action)
        return found


def tag(execution: FlowExecution, name: str = "approved", operation: str = "add", task: str = "extract") -> Any:
    ids = {"flow_execution_id": str(execution.pk), "task_name": task}
    return {"operation": operation, "tag": name, "tag_type": "review", **ids}


def send_tags(api: Api, *operations: Any, **headers: str) -> Any:
    return api("PATCH", "/api/task-tags", {"tags": list(operations)}, **headers)


def run(sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []


# --- Sign-ins ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["/login/", "/admin/login/"])
def test_a_sign_in_by_either_form_is_recorded_and_so_is_one_that_fails(db: None, form: str) -> None:
    user = User.objects.create_user("sina", password=PASSWORD, is_staff=True)
    client, news = Client(), News()
    client.post(form, {"username": "sina", "password": "wrong " + PASSWORD})
    answer = client.post(form, {"username": "sina", "password": PASSWORD})
    assert answer.status_code == 302
    failed, done = news
    assert (failed.action, failed.outcome, failed.actor_name, failed.actor_id) == (
        "sign_in",
        "refused",
        "anonymous",
        None,
    )
    assert (failed.subject_type, failed.subject_id, failed.subject_text) == ("user", str(user.pk), "sina")
    assert (done.action, done.outcome, done.actor_kind, done.actor_name, done.actor_id) == (
        "sign_in",
        "done",
        "user",
        "user:sina",
        user.pk,
    )
    assert (done.address, done.request_id) == ("127.0.0.1", answer["X-Request-ID"])
    assert timezone.now() - timedelta(seconds=30) < done.created_at <= timezone.now()


def test_a_sign_out_is_recorded(organization: Organization) -> None:
    user = make_member(organization, username="sina")
    client = Client()
    client.force_login(user)
    news = News()
    client.post("/logout/")
    client.post("/logout/")  # by nobody
    assert [(record.action, record.actor_name) for record in news] == [("sign_out", "user:sina")]


def test_what_is_typed_as_an_unknown_user_name_is_not_kept(db: None) -> None:
    news = News()
    Client().post("/login/", {"username": PASSWORD, "password": "x"})
    assert [record.subject_text for record in news] == ["unknown user name"]
    assert PASSWORD not in str(Record.objects.values())


def test_a_lockout_is_recorded_once_and_not_for_every_attempt_that_follows(db: None) -> None:
    user = User.objects.create_user("sina", password=PASSWORD)
    news = News()
    answers = [Client().post("/login/", {"username": "sina", "password": "x"}).status_code for _ in range(8)]
    assert answers == [*[200] * 4, *[429] * 4]
    (lockout,) = [record for record in news if record.action == "sign_in.lockout"]
    assert (lockout.outcome, lockout.address, lockout.subject_id) == ("refused", "127.0.0.1", str(user.pk))


# --- Who may do what -----------------------------------------------------------------------------------------------


def test_a_token_is_recorded_from_the_form_that_makes_it_to_the_button_that_ends_it(
    staff: Client, superuser: User, organization: Organization
) -> None:
    account = ServiceAccount.objects.create(organization=organization, name="doc-3")
    news = News()
    raw = shown_token(new_token(staff, account, expires_in_days="30"))
    token = ServiceToken.objects.get(prefix=raw[:8])
    answer = staff.post(revoke_button(token))
    made, ended = news
    assert (made.action, ended.action) == ("token.created", "token.revoked")
    for each in (made, ended):
        assert (each.actor_name, each.actor_id, each.address) == ("user:staff", superuser.pk, "127.0.0.1")
        assert (each.organization_id, each.subject_type) == (organization.pk, "service_token")
        assert (each.subject_id, each.subject_text) == (token.prefix, "doc-3")
    assert ended.request_id == answer["X-Request-ID"]
    assert made.details["scopes"] == ["read", "status:write"]
    assert made.details["expiry_date"].startswith(f"{timezone.now() + timedelta(days=30):%Y-%m-%d}")
    assert ended.details == {}
    assert raw[9:] not in str(list(Record.objects.values()))
    assert token.hashed_key not in str(list(Record.objects.values()))


def test_tokens_that_are_revoked_or_deleted_together_are_recorded_each(
    staff: Client, organization: Organization
) -> None:
    pks = [ServiceToken.objects.get(prefix=make_token(organization)[:8]).pk for _ in range(2)]
    news = News()
    staff.post(TOKENS, {"action": "revoke", "_selected_action": pks})
    staff.post(TOKENS, {"action": "delete_selected", "_selected_action": pks, "post": "yes"})
    assert news.actions == ["token.revoked"] * 2 + ["token.deleted"] * 2
    assert {record.actor_name for record in news} == {"user:staff"}


def test_the_command_and_the_service_are_recorded_too(db: None) -> None:
    news = News()
    call_command("create_service_token", "--organization", "acme", "--name", "doc-3", stdout=StringIO())
    assert news.actions == ["organization.created", "service_account.created", "token.created"]
    assert {(record.actor_kind, record.actor_name) for record in news} == {("command", "command:create_service_token")}
    assert {record.organization_id for record in news} == {Organization.objects.get(slug="acme").pk}
    news = News()
    make_token(None)
    assert {record.actor_kind for record in news} == {"database"}  # nobody put a name to it
    assert {record.organization_id for record in news} == {None}


def test_the_use_of_a_token_and_a_sign_in_are_no_changes(organization: Organization) -> None:
    raw = make_token(organization)
    news = News()
    ServiceToken.objects.filter(prefix=raw[:8]).update(last_used_at=timezone.now())
    User.objects.update(last_login=timezone.now())
    Api(raw).get("/api/flows")
    assert news.actions == []


def test_roles_are_recorded_by_every_form_that_changes_them(staff: Client, organization: Organization) -> None:
    user, other = User.objects.create(username="vera"), make_organization()
    news = News()
    base = list_of(Membership)
    staff.post(f"{base}add/", {"user": user.pk, "organization": organization.pk, "role": "viewer"})
    member = Membership.objects.get(user=user)
    change = f"{base}{member.pk}/change/"
    staff.post(change, {"user": user.pk, "organization": organization.pk, "role": "admin"})
    staff.post(change, {"user": user.pk, "organization": other.pk, "role": "admin"})
    staff.post(f"{base}{member.pk}/delete/", {"post": "yes"})
    told = [(record.action, record.organization_id, record.details["role"]) for record in news]
    assert told == [
        ("member.added", organization.pk, "viewer"),
        ("member.changed", organization.pk, {"from": "viewer", "to": "admin"}),
        ("member.removed", organization.pk, "admin"),
        ("member.added", other.pk, "admin"),
        ("member.removed", other.pk, "admin"),
    ]
    assert {(record.actor_name, record.subject_id, record.subject_text) for record in news} == {
        ("user:staff", str(user.pk), "vera")
    }


def test_roles_given_on_the_page_of_an_organization_are_recorded(staff: Client, organization: Organization) -> None:
    user = User.objects.create(username="vera")
    news = News()
    form = {"slug": organization.slug, "name": "Another name"}
    for prefix in ("memberships", "service_accounts"):
        form |= {f"{prefix}-TOTAL_FORMS": "0", f"{prefix}-INITIAL_FORMS": "0"}
    member = {"memberships-0-user": str(user.pk), "memberships-0-role": "member", "memberships-0-id": ""}
    organization_of = {"memberships-0-organization": str(organization.pk), "memberships-TOTAL_FORMS": "1"}
    answer = staff.post(f"{list_of(Organization)}{organization.pk}/change/", {**form, **member, **organization_of})
    assert answer.status_code == 302, text(answer)
    assert news.actions == ["organization.changed", "member.added"]
    assert news.one("organization.changed").details == {"name": {"from": organization.slug, "to": "Another name"}}
    assert {record.actor_name for record in news} == {"user:staff"}


def person_form(user: User, **changes: Any) -> dict[str, Any]:
    """Return what the form of a person sends: as they are, with changes."""
    joined = {"date_joined_0": f"{user.date_joined:%Y-%m-%d}", "date_joined_1": f"{user.date_joined:%H:%M:%S}"}
    empty = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    return {"username": user.username, "is_active": "on", **joined, **empty, **changes}


def test_flags_groups_and_permissions_of_a_person_are_recorded(staff: Client) -> None:
    user = User.objects.create(username="vera")
    group = Group.objects.create(name="reviewers")
    view = Permission.objects.get(codename="view_tasktag")
    page = f"{list_of(User)}{user.pk}/change/"
    news = News()
    given = {"is_staff": "on", "is_superuser": "on", "groups": [group.pk], "user_permissions": [view.pk]}
    assert staff.post(page, person_form(user, **given)).status_code == 302
    assert {key: value for record in news for key, value in record.details.items()} == {
        "is_staff": {"from": False, "to": True},
        "is_superuser": {"from": False, "to": True},
        "groups_added": ["reviewers"],
        "permissions_added": ["view_tasktag"],
    }
    assert {(record.action, record.actor_name, record.subject_text) for record in news} == {
        ("user.changed", "user:staff", "vera")
    }
    news = News()
    form = person_form(user)
    del form["is_active"]
    staff.post(page, form)
    assert {key for record in news for key in record.details} == {
        *("is_active", "is_staff", "is_superuser", "groups_removed", "permissions_removed")
    }


def test_people_who_come_and_go_are_recorded_with_their_roles(staff: Client) -> None:
    news = News()
    new = {"username": "vera", "password1": PASSWORD, "password2": PASSWORD, "usable_password": "true"}
    empty = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    assert staff.post(f"{list_of(User)}add/", {**new, **empty}).status_code == 302
    user = User.objects.get(username="vera")
    assert user.check_password(PASSWORD)
    Membership.objects.create(user=user, organization=make_organization())
    staff.post(f"{list_of(User)}{user.pk}/delete/", {"post": "yes"})
    assert [record.action for record in news if record.actor_name == "user:staff"] == [
        *("user.created", "member.removed", "user.deleted")
    ]
    assert {record.subject_text for record in news if record.subject_type == "user"} == {"vera"}


def test_groups_of_staff_and_what_they_may_do_are_recorded(staff: Client) -> None:
    view, change = (Permission.objects.get(codename=f"{verb}_tasktag") for verb in ("view", "change"))
    news = News()
    staff.post(f"{list_of(Group)}add/", {"name": "auditors", "permissions": [view.pk, change.pk]})
    page = f"{list_of(Group)}{Group.objects.get(name='auditors').pk}/"
    staff.post(f"{page}change/", {"name": "lookers", "permissions": [view.pk]})
    staff.post(f"{page}delete/", {"post": "yes"})
    assert [(record.action, record.details) for record in news] == [
        ("staff_group.created", {}),
        ("staff_group.changed", {"permissions_added": ["change_tasktag", "view_tasktag"]}),
        ("staff_group.changed", {"name": {"from": "auditors", "to": "lookers"}}),
        ("staff_group.changed", {"permissions_removed": ["change_tasktag"]}),
        ("staff_group.changed", {"permissions_removed": ["view_tasktag"]}),
        ("staff_group.deleted", {}),
    ]
    assert {record.actor_name for record in news} == {"user:staff"}


def test_service_accounts_and_organizations_are_recorded(staff: Client, organization: Organization) -> None:
    news = News()
    staff.post(f"{list_of(ServiceAccount)}add/", {"name": "doc-3", "organization": organization.pk})
    account = ServiceAccount.objects.get(organization=organization)
    page = f"{list_of(ServiceAccount)}{account.pk}/"
    staff.post(f"{page}change/", {"name": "doc-4"})
    staff.post(f"{page}delete/", {"post": "yes"})
    staff.post(f"{list_of(Organization)}{organization.pk}/delete/", {"post": "yes"})
    assert [(record.action, record.subject_text, record.organization_id) for record in news] == [
        ("service_account.created", "doc-3", organization.pk),
        ("service_account.changed", "doc-4", organization.pk),
        ("service_account.deleted", "doc-4", organization.pk),
        ("organization.deleted", organization.name, organization.pk),
    ]
    assert {record.actor_name for record in news} == {"user:staff"}


def test_more_rights_for_a_token_are_recorded_although_no_form_gives_them(organization: Organization) -> None:
    raw = make_token(organization, ["read"])
    news = News()
    ServiceToken.objects.filter(prefix=raw[:8]).update(scopes=["read", "tags:write"])
    (changed,) = news
    assert (changed.action, changed.subject_id) == ("token.changed", raw[:8])
    assert changed.details == {"scopes": {"from": ["read"], "to": ["read", "tags:write"]}}


def test_passwords_are_recorded_as_changed_by_whom_and_never_themselves(staff: Client, superuser: User) -> None:
    superuser.set_password(PASSWORD)
    superuser.save()
    staff.force_login(superuser)
    user = User.objects.create(username="vera")
    news, new = News(), "another battery staple"
    form = {"password1": new, "password2": new, "usable_password": "true"}
    assert staff.post(f"{list_of(User)}{user.pk}/password/", form).status_code == 302
    own = {"old_password": PASSWORD, "new_password1": new, "new_password2": new}
    assert staff.post("/admin/password_change/", own).status_code == 302
    told = [(record.action, record.actor_name, record.subject_text, record.details) for record in news]
    assert told == [
        ("user.password_changed", "user:staff", "vera", {}),
        ("user.password_changed", "user:staff", "staff", {}),
    ]
    user.refresh_from_db()
    assert user.password not in str(list(Record.objects.values()))


def test_what_is_done_by_hand_or_by_a_command_of_django_is_recorded_under_the_role_of_the_database(db: None) -> None:
    news = News()
    call_command("createsuperuser", "--noinput", "--username", "root", "--email", "", stdout=StringIO())
    run("UPDATE accounts_user SET is_superuser = false WHERE username = 'root'")
    created, changed = news
    assert created.details["is_superuser"] is True
    assert changed.details == {"is_superuser": {"from": True, "to": False}}
    assert {record.actor_name for record in news} == {f"database:{run('SELECT session_user')[0][0]}"}


def test_a_change_that_is_undone_leaves_no_record_and_the_name_of_an_author_ends_with_the_block(db: None) -> None:
    news = News()
    with transaction.atomic():
        User.objects.create(username="vera")
        transaction.set_rollback(True)
    assert news.actions == []
    with suppress(ValueError), acting(Author("command:one")):
        User.objects.create(username="vera")
        raise ValueError
    with acting(Author("command:two", origin=Origin("2001:db8::1", "0" * 26))):
        User.objects.create(username="tom")
        with acting(Author("command:three")):
            User.objects.create(username="tim")
        User.objects.create(username="tam")
    User.objects.create(username="tum")
    names = [(record.subject_text, record.actor_name.partition(":")[2], record.address) for record in news]
    assert names[:3] == [("tom", "two", "2001:db8::1"), ("tim", "three", None), ("tam", "two", "2001:db8::1")]
    assert [(name, kind.actor_kind) for (name, _, _), kind in list(zip(names, news, strict=True))[3:]] == [
        ("tum", "database")
    ]


# --- What was refused ----------------------------------------------------------------------------------------------


def test_a_refused_request_of_a_person_is_recorded(organization: Organization, execution: FlowExecution) -> None:
    viewer = make_member(organization, "viewer", username="vera")
    api = Api(user=viewer)
    news = News()
    answer = send_tags(api, tag(execution))
    assert answer.status_code == 403
    (refused,) = news
    assert (refused.action, refused.outcome) == ("access.refused", "refused")
    assert (refused.actor_name, refused.actor_id, refused.organization_id) == (
        "user:vera",
        viewer.pk,
        organization.pk,
    )
    assert refused.subject_text == "PATCH api/task-tags"
    assert refused.request_id == answer["X-Request-ID"]
    assert refused.details["path"] == "/api/task-tags"
    assert "member or admin" in refused.details["reason"]


def test_a_refused_request_of_a_token_names_the_token_by_its_prefix(organization: Organization) -> None:
    raw = make_token(organization, ["read"])
    news = News()
    assert Api(raw).post("/api/flows", {}).status_code == 403
    (refused,) = news
    assert refused.actor_kind == "service"
    assert refused.details["token"] == raw[:8]


def test_a_refusal_within_a_transaction_is_recorded_although_that_is_undone(
    organization: Organization, execution: FlowExecution
) -> None:
    person = make_member(organization, "viewer")
    ensure_member(user=person, organization=make_organization(), role="member")
    news = News()
    assert send_tags(Api(user=person), tag(execution)).status_code == 403
    assert news.one("access.refused").actor_id == person.pk


def test_a_write_without_its_csrf_token_names_the_person(organization: Organization) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_member(organization, "admin", username="vera"))
    news = News()
    assert client.post("/api/flows", {}, content_type="application/json").status_code == 403
    assert news.one("access.refused").actor_name == "user:vera"


def test_what_staff_may_not_do_in_the_admin_is_recorded(organization: Organization) -> None:
    token = ServiceToken.objects.get(prefix=make_token(organization)[:8])
    looking = staff_who_may("view_servicetoken")
    news = News()
    assert looking.post(revoke_button(token)).status_code == 403
    refused = news.one("access.refused")
    assert refused.actor_name == "user:limited"
    assert refused.subject_text.startswith("POST admin/")
    assert refused.details["path"] == f"/admin/accounts/servicetoken/{token.prefix}…/revoke/"


def test_a_token_that_is_sent_at_the_wrong_place_is_not_kept(organization: Organization) -> None:
    raw = make_token(organization)
    news = News()
    assert Api("nonsense").get(f"/api/flows/{raw}").status_code == 401
    assert news.one("credential.refused").details["path"] == f"/api/flows/{raw[:8]}…"


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
@pytest.mark.parametrize("kind", ["unknown", "wrong secret", "revoked", "expired", "nonsense"])
def test_a_wrong_credential_is_recorded_with_the_reason_that_the_answer_does_not_give(
    organization: Organization, kind: str, header: str
) -> None:
    raw = make_token(organization)
    token = ServiceToken.objects.filter(prefix=raw[:8])
    presented = {"unknown": f"{'x' * 8}.{'y' * 40}", "wrong secret": f"{raw[:9]}{'z' * 40}", "nonsense": PASSWORD}
    if kind == "revoked":
        token.get().revoke()
    elif kind == "expired":
        token.update(expiry_date=timezone.now() - timedelta(days=1))
    text_sent = presented.get(kind, raw)
    news = News()
    sent = text_sent if header == "X-API-Key" else f"Bearer {text_sent}"
    assert Api().get("/api/flows", **{header: sent}).status_code == 401
    refused = news.one("credential.refused")
    is_ours = kind not in ("unknown", "nonsense")
    assert refused.details == {"count": 1, "path": "/api/flows", "reason": kind if is_ours else "unknown"}
    assert (refused.subject_id, refused.organization_id) == ((raw[:8], organization.pk) if is_ours else ("", None))
    assert (refused.actor_name, refused.address) == ("anonymous", "127.0.0.1")
    assert text_sent.partition(".")[2] not in str(list(Record.objects.values())) or kind == "nonsense"
    assert PASSWORD not in str(list(Record.objects.values()))


def test_no_credential_at_all_is_nothing_to_record(db: None) -> None:
    news = News()
    assert Api().get("/api/flows").status_code == 401
    assert Client().get("/").status_code == 302
    assert Client().get("/no-such-page/").status_code == 404
    assert news.actions == []


def test_a_socket_with_a_wrong_credential_is_recorded(organization: Organization) -> None:
    news = News()
    raw = make_token(organization, ["tags:write"])
    headers = [(b"authorization", f"Bearer {raw}".encode())]
    scope = {"headers": headers, "client": ["203.0.113.7", 1], "path": f"/ws/organizations/{organization.pk}"}
    assert visitor_of_scope(scope) is None
    refused = news.one("credential.refused")
    assert (refused.address, refused.subject_id, refused.details["reason"]) == ("203.0.113.7", raw[:8], "not enough")


def test_a_flood_of_wrong_tokens_leaves_a_row_for_every_power_of_ten(db: None) -> None:
    news, api = News(), Api("nonsense")
    for _ in range(123):
        assert api.get("/api/flows").status_code == 401
    assert [record.details["count"] for record in news] == [1, 10, 100]


def test_a_flood_from_many_addresses_is_bounded_too() -> None:
    now = [0.0]
    flood = Flood(clock=lambda: now[0])
    told = [flood.count(f"198.51.100.{number}") for number in range(1000)]
    rows = [each for each in told if each]
    assert len(rows) == MOST_SOURCES + 3
    assert rows[-1] == {"count": 100, "sources": "many"}
    assert flood.count("198.51.100.1") is None  # a second one of a source that is told apart
    now[0] = floods.WINDOW_SECONDS
    assert flood.count("198.51.100.1") == {"count": 1}


def test_failed_sign_ins_are_bounded_by_person_and_address(
    db: None, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    for name in ("vera", "tom"):
        User.objects.create_user(name, password=PASSWORD)
    news = News()
    for number in range(12):
        for name in ("vera", "tom", f"nobody-{number}"):
            Client().post("/login/", {"username": name, "password": "x"})
    assert [(record.action, record.subject_text, record.details["count"]) for record in news] == [
        *(("sign_in", name, 1) for name in ("vera", "tom", "unknown user name")),
        *(("sign_in.lockout", name, 1) for name in ("vera", "tom")),
        *(("sign_in", name, 10) for name in ("vera", "tom", "unknown user name")),
    ]


def test_whoever_asks_for_many_ids_that_are_not_theirs_is_recorded_and_hears_nothing_of_it(
    organization: Organization, stranger: Api, execution: FlowExecution
) -> None:
    news = News()
    foreign = [stranger.get(f"/api/flow-executions/{execution.pk}") for _ in range(10)]
    missing = [stranger.get(f"/api/flow-executions/{uuid4()}") for _ in range(2)]
    assert {answer.status_code for answer in [*foreign, *missing]} == {404}
    assert len({without_id(answer) for answer in [*foreign, *missing]}) == 1
    (probing,) = news
    assert (probing.action, probing.outcome, probing.details["count"]) == ("access.unknown", "refused", 10)
    assert probing.actor_kind == "service"
    assert probing.organization_id != organization.pk
    assert probing.subject_text == "GET api/flow-executions/<id:flow_execution_id>"


def test_a_person_who_tries_addresses_of_pages_is_recorded(organization: Organization) -> None:
    client = Client()
    client.force_login(make_member(organization, username="vera"))
    news = News()
    for _ in range(10):
        assert client.get(f"/flows/{uuid4()}/").status_code == 404
    assert news.one("access.unknown").actor_name == "user:vera"


def test_a_refusal_stays_one_when_the_record_cannot_be_written(
    organization: Organization, execution: FlowExecution, caplog: pytest.LogCaptureFixture
) -> None:
    raw = make_token(organization)
    ServiceToken.objects.get(prefix=raw[:8]).revoke()
    viewer = Api(user=make_member(organization, "viewer", username="vera"))

    def away(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if "INSERT INTO audit_record" in sql or ("serviceaccount" in sql and "JOIN accounts_organization" in sql):
            raise OperationalError("gone")
        return execute(sql, *rest)

    news = News()
    with connection.execute_wrapper(away):
        assert Api(raw).get("/api/flows").status_code == 401
        assert send_tags(viewer, tag(execution)).status_code == 403
        assert Client().post("/login/", {"username": "vera", "password": "x"}).status_code == 200
    assert news.actions == []
    assert len(re.findall(r"not in the audit record: .*(?:credential|access)\.refused", caplog.text)) == 2
    assert raw[9:] not in caplog.text


# --- Tags, and what staff and tasks do -----------------------------------------------------------------------------


def test_a_tag_batch_has_a_record_that_says_what_was_added_and_removed(
    organization: Organization, execution: FlowExecution
) -> None:
    raw = make_token(organization)
    api = Api(raw)
    news = News()
    answer = send_tags(
        api, tag(execution), tag(execution, task="report"), tag(execution), tag(execution, "no", "remove")
    )
    assert answer.status_code == 200
    (added,) = news
    assert (added.action, added.outcome, added.organization_id) == ("tags.changed", "done", organization.pk)
    assert added.actor_name == ServiceToken.objects.get(prefix=raw[:8]).service_account.name.join(["service:", ""])
    assert (added.subject_type, added.subject_id) == ("flow_execution", str(execution.pk))
    assert added.subject_text == "extract review:approved and 1 more"
    assert (added.address, added.request_id) == ("127.0.0.1", answer["X-Request-ID"])
    names = ["extract review:approved", "report review:approved"]
    executions = {str(execution.pk): {"added": names}}
    assert added.details == {"added": 2, "removed": 0, "executions": executions, "token": raw[:8]}
    news = News()
    send_tags(api, tag(execution, operation="remove"), tag(execution, "brief"), tag(execution, "brief", "remove"))
    (changed,) = news
    assert (changed.details["added"], changed.details["removed"]) == (1, 2)
    assert changed.details["executions"] == {
        str(execution.pk): {
            "added": ["extract review:brief"],
            "removed": ["extract review:approved", "extract review:brief"],
        }
    }


def test_a_batch_over_organizations_has_a_record_in_each(organization: Organization) -> None:
    other = make_organization()
    executions = [make_execution(make_flow(each)) for each in (organization, other, organization)]
    news = News()
    send_tags(Api(make_token(None)), *map(tag, executions))
    told = {record.organization_id: record for record in news if record.action == "tags.changed"}
    assert told[organization.pk].details["added"] == 2
    assert told[organization.pk].subject_id == ""
    assert told[other.pk].details["executions"].keys() == {str(executions[1].pk)}


def test_a_batch_that_changes_nothing_is_refused_or_repeated_has_no_record(
    organization: Organization, execution: FlowExecution
) -> None:
    api, key = Api(make_token(organization)), {"Idempotency-Key": "the same"}
    send_tags(api, tag(execution), **key)
    news = News()
    send_tags(api, tag(execution), **key)
    send_tags(api, tag(execution))
    send_tags(api, tag(execution, "other"), tag(execution, task="nope"))
    assert news.actions == []


def test_a_batch_whose_record_is_refused_is_refused_with_it(
    organization: Organization, execution: FlowExecution, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tags.auditing.NAMED", 10**6)
    large = [tag(execution, f"{number:02}{'é' * 198}") for number in range(100)]
    answer = send_tags(Api(make_token(organization)), *large)
    assert answer.status_code >= 400
    assert not execution.task_tags.exists()


def test_the_record_of_the_largest_batch_is_small(organization: Organization, execution: FlowExecution) -> None:
    large = [tag(execution, f"{number:02}{'€' * 198}") for number in range(100)]
    news = News()
    assert send_tags(Api(make_token(organization)), *large).status_code == 200
    details = news.one("tags.changed").details
    named = details["executions"][str(execution.pk)]["added"]
    assert details["added"] == 100 == len(named) + details["not_named"]
    assert len(named) > 10
    (size,) = run("SELECT max(pg_column_size(details)) FROM audit_record")[0]
    assert size < DETAILS_BYTES


@pytest.mark.parametrize("name", ['"', "\\", "\N{PILE OF POO}", "{}", "'; DROP TABLE audit_record; --", "\u2028"])
def test_any_text_of_a_tag_is_recorded_as_it_is(
    organization: Organization, execution: FlowExecution, name: str
) -> None:
    news = News()
    send_tags(Api(make_token(organization)), tag(execution, name))
    assert news.one("tags.changed").subject_text == f"extract review:{name}"


def test_the_record_of_a_batch_is_a_part_of_the_statement_that_writes_it(
    organization: Organization, execution: FlowExecution
) -> None:
    api = Api(make_token(organization))
    send_tags(api, tag(execution, "first"))
    for operations in ([tag(execution)], [tag(execution, operation="remove"), tag(execution, "other")]):
        with CaptureQueriesContext(connection) as captured:
            send_tags(api, *operations)
        (writing,) = [query["sql"] for query in captured if "audit_record" in query["sql"]]
        assert "INSERT INTO tags_tasktag" in writing
        assert "INSERT INTO notifications_event" in writing


def test_a_restore_is_recorded_as_one(staff: Client, organization: Organization, execution: FlowExecution) -> None:
    api = Api(make_token(organization))
    send_tags(api, tag(execution), tag(execution, operation="remove"))
    news = News()
    staff.post(f"{TAGS}{execution.task_tags.get().pk}/restore/")
    (restored,) = news
    assert (restored.action, restored.actor_name, restored.address) == ("tags.restored", "user:staff", "127.0.0.1")
    assert (restored.organization_id, restored.details["added"]) == (organization.pk, 1)


def test_a_retry_by_hand_is_recorded(staff: Client, execution: FlowExecution) -> None:
    news = News()
    staff.post(f"/admin/notifications/stream/{execution.flow_id}/retry/")
    (retried,) = news
    assert (retried.action, retried.actor_name) == ("events.retried", "user:staff")
    assert retried.subject_id == str(execution.flow_id)
    assert retried.details == {"events": 1, "flows": 1, "failed": 0, "left": 0}


def test_files_that_people_take_away_are_recorded(organization: Organization, execution: FlowExecution) -> None:
    client = Client()
    client.force_login(make_member(organization, "viewer", username="vera"))
    paths = [f"/flows/{execution.flow_id}/export.csv?status=failed", "/review/export.json"]
    paths += [f"/executions/{execution.pk}/{name}.csv" for name in ("tasks", "history", "tags")]
    news = News()
    for path in paths:
        assert client.get(path).status_code == 200
    assert client.get(f"/executions/{execution.pk}/tasks.exe").status_code == 404
    told = [(record.action, record.actor_name, record.organization_id, record.details["path"]) for record in news]
    assert told == [("data.exported", "user:vera", organization.pk, path) for path in paths]


def test_history_that_is_dropped_is_recorded_by_the_task_and_by_the_command(db: None, settings: Settings) -> None:
    settings.HISTORY_RETENTION_DAYS = 365
    add_partitions(now=MAY)
    news = News()
    call_command("drop_history", "--before", "2001-06-01", stdout=StringIO())
    keep_history()
    told = [(record.action, record.actor_name, record.subject_text) for record in news]
    assert told == [
        ("history.dropped", "command:drop_history", "executions_taskstatus_2001_05"),
        ("history.dropped", "task:executions.keep_history", "executions_taskstatus_2001_06"),
        ("history.dropped", "task:executions.keep_history", "executions_taskstatus_2001_07"),
    ]
    assert next(iter(news)).details["until"] == "2001-06-01T00:00:00+00:00"


def test_a_month_that_is_dropped_past_our_code_is_recorded_nevertheless(db: None) -> None:
    add_partitions(now=MAY)
    news = News()
    run("SELECT flowplatform_drop_partition('executions_taskstatus', 'executions_taskstatus_2001_05')")
    assert (news.one("history.dropped").actor_kind, news.one("history.dropped").subject_text) == (
        "database",
        "executions_taskstatus_2001_05",
    )


def test_what_is_removed_for_good_is_recorded(execution: FlowExecution) -> None:
    FlowExecution.objects.filter(pk=execution.pk).update(status="deleted")
    news = News()
    assert remove_deleted(before=timezone.now() + timedelta(days=1)) == 1
    removed = news.one("data.removed")
    assert (removed.actor_name, removed.organization_id) == (
        "task:executions.remove_deleted",
        execution.organization_id,
    )
    assert (removed.subject_type, removed.subject_id) == ("flow_execution", str(execution.pk))


def test_a_restored_backup_is_recorded(as_owner: None, db: None, execution: FlowExecution) -> None:
    news = News()
    call_command("after_restore", stdout=StringIO())
    assert news.one("data.restored").actor_name == "command:after_restore"
    assert news.one("data.restored").details["streams"] >= 1


def test_a_name_that_staff_unlock_is_recorded(db: None) -> None:
    user = User.objects.create_user("sina", password=PASSWORD)
    for _ in range(5):
        Client().post("/login/", {"username": "sina", "password": "x"})
    staff = staff_who_may("view_accessattempt", "delete_accessattempt")
    news = News()
    attempt = AccessAttempt.objects.filter(username="sina").first()
    assert attempt is not None
    assert staff.post(f"/admin/axes/accessattempt/{attempt.pk}/unlock/").status_code == 302
    unlocked = news.one("sign_in.unlocked")
    assert (unlocked.subject_id, unlocked.details) == (str(user.pk), {"address": "127.0.0.1"})


def test_an_address_that_has_no_attempts_left_locks_nobody_out(db: None, settings: Settings) -> None:
    settings.RATE_LIMITS = {**settings.RATE_LIMITS, "sign_ins": "1/day"}
    User.objects.create_user("sina", password=PASSWORD)
    client, news = Client(REMOTE_ADDR="203.0.113.77"), News()
    assert [client.post("/login/", {"username": "sina", "password": "x"}).status_code for _ in range(3)] == [
        200,
        429,
        429,
    ]
    assert "sign_in.lockout" not in news.actions


# --- Append-only, and for how long ---------------------------------------------------------------------------------


def write(moment: datetime) -> None:
    """Have a row of this moment."""
    columns = "created_at, action, outcome, actor_kind, actor_name, subject_type, subject_id, subject_text, request_id"
    values = "%s, 'sign_out', 'done', 'user', 'user:vera', '', '', '', ''"
    run(f"INSERT INTO audit_record ({columns}, details) VALUES ({values}, '{{}}')", moment)


def places() -> list[tuple[str, datetime]]:
    sql = "SELECT tableoid::regclass::text, created_at FROM audit_record WHERE created_at < %s ORDER BY position"
    return run(sql, datetime(2010, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("which", ["table", "this month", "a month made later", "default"])
@pytest.mark.parametrize(
    "statement", ["UPDATE {} SET outcome = 'done'", "DELETE FROM {}", "TRUNCATE {}", "TRUNCATE {} CASCADE"]
)
def test_the_database_refuses_to_change_or_remove_a_record(
    as_owner: None, db: None, which: str, statement: str
) -> None:
    if which == "a month made later":
        RECORD.add(now=MAY)
    write(timezone.now())
    write(MAY)
    tables = {
        "table": "audit_record",
        "this month": f"audit_record_{timezone.now():%Y_%m}",
        "a month made later": "audit_record_2001_05",
        "default": "audit_record_default",
    }
    before = Record.objects.count()
    with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
        run(statement.format(tables[which]))
    assert Record.objects.count() == before


@pytest.mark.parametrize(
    "change", [{"action": "nonsense"}, {"outcome": "x"}, {"actor_kind": "x"}, {"details": {"a": "é" * DETAILS_BYTES}}]
)
def test_the_database_knows_the_vocabulary_and_the_size(db: None, change: dict[str, Any]) -> None:
    row = {"action": "sign_in", "outcome": "done", "actor_kind": "user", "details": {}, "created_at": timezone.now()}
    Record(**row).save(force_insert=True)
    with pytest.raises(IntegrityError), transaction.atomic():
        Record(**{**row, **change}).save(force_insert=True)


def test_a_record_of_no_month_is_kept_and_sorted_in_later(as_owner: None, db: None) -> None:
    write(MAY)
    write(MAY - timedelta(days=31))
    assert [place for place, _ in places()] == ["audit_record_default"] * 2
    RECORD.add(now=MAY)
    assert places() == [("audit_record_2001_05", MAY), ("audit_record_2001_04", MAY - timedelta(days=31))]
    for table in ("audit_record_2001_05", "audit_record_default"):
        write(MAY - timedelta(days=365))
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            run(f"DELETE FROM {table}")


@pytest.mark.parametrize(("days", "is_kept"), [(0, True), (100_000, True), (365, False)])
def test_whole_months_are_dropped_by_the_setting_and_that_is_recorded(
    db: None, settings: Settings, days: int, is_kept: bool
) -> None:
    settings.AUDIT_RETENTION_DAYS = days
    write(MAY)
    news = News()
    keep_record()
    assert bool(places()) == is_kept
    dropped = [(record.action, record.actor_name, record.subject_text) for record in news]
    assert dropped == ([] if is_kept else [("audit.dropped", "task:audit.keep", "audit_record_2001_05")])
    begin = month_of(timezone.now())
    names = {partition.name for partition in RECORD.partitions()}
    assert {f"audit_record_{begin:%Y_%m}", f"audit_record_{begin + timedelta(days=62):%Y_%m}"} <= names


def test_a_record_outlives_what_it_tells_of(staff: Client, organization: Organization) -> None:
    raw = make_token(organization)
    Organization.objects.filter(pk=organization.pk).delete()
    page = staff.get(RECORDS, {"q": raw[:8]})
    assert str(organization.pk) in text(page)
    assert {"token.created", "token.deleted"} == {record.action for record in page.context["cl"].result_list}


# --- The admin -----------------------------------------------------------------------------------------------------


def test_nobody_writes_in_the_admin_not_even_a_superuser(staff: Client, organization: Organization) -> None:
    make_token(organization)
    row = Record.objects.latest("position")
    before = Record.objects.count()
    page = staff.get(f"{RECORDS}{row.pk}/change/")
    assert page.status_code == 200
    for name in ("_save", "deletelink", "_addanother"):
        assert name not in page.content.decode()
    assert "delete_selected" not in staff.get(RECORDS).content.decode()
    assert staff.get(f"{RECORDS}add/").status_code == 403
    assert staff.post(f"{RECORDS}add/", {"action": "sign_in"}).status_code == 403
    assert staff.post(f"{RECORDS}{row.pk}/change/", {"action": "sign_in"}).status_code == 403
    assert staff.post(f"{RECORDS}{row.pk}/delete/", {"post": "yes"}).status_code == 403
    staff.post(RECORDS, {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"})
    assert set(Record.objects.filter(position__lte=row.pk)) >= {row}
    assert Record.objects.exclude(action="access.refused").count() == before


def test_staff_need_the_permission_and_administrators_of_organizations_have_no_page(organization: Organization) -> None:
    assert staff_who_may("view_user").get(RECORDS).status_code == 403
    admin = Client()
    admin.force_login(make_member(organization, "admin"))
    assert admin.get(RECORDS).status_code == 302
    User.objects.filter(username="limited").delete()
    assert staff_who_may("view_record").get(RECORDS).status_code == 200


@pytest.fixture
def told(staff: Client) -> dict[str, int]:
    """Two records to be told apart, and where they are."""
    vera = Author("user:vera", uuid4(), Origin("203.0.113.7", "01K0000000000000000000000V"))
    tom = Author("service:tom-3", uuid4(), Origin("2001:db8::7", "01K0000000000000000000000T"))
    record(
        Entry(Action.TAGS_CHANGED, vera, organization_id=make_organization("veras").pk),
        Entry(Action.ACCESS_REFUSED, tom, Outcome.REFUSED, organization_id=make_organization("toms").pk),
    )
    pks = {row.actor_name: row.pk for row in Record.objects.filter(actor_name__in=(vera.name, tom.name))}
    return {"vera": pks["user:vera"], "tom": pks["service:tom-3"]}


def test_a_record_is_found_by_actor_organization_request_and_address(staff: Client, told: dict[str, int]) -> None:
    vera = Record.objects.get(pk=told["vera"])
    words = ["user:vera", "VER", str(vera.actor_id), vera.request_id, "203.0.113.7", "ver 203.0.113.7"]
    for word in words:
        assert listed(staff.get(RECORDS, {"q": word})) & set(told.values()) == {vera.pk}, word
    assert listed(staff.get(RECORDS, {"q": "2001:0db8::0007"})) == {told["tom"]}
    assert listed(staff.get(RECORDS, {"q": str(vera.organization_id)})) >= {vera.pk}
    assert listed(staff.get(RECORDS, {"q": "vera tom"})) == set()


def test_a_record_is_found_by_its_subject(staff: Client, organization: Organization) -> None:
    user = User.objects.create(username="walter")
    created = Record.objects.get(subject_id=str(user.pk))
    for word in ("walt", str(user.pk)):
        assert listed(staff.get(RECORDS, {"q": word})) == {created.pk}


def test_records_are_filtered_by_action_outcome_kind_organization_and_time(
    staff: Client, told: dict[str, int], organization: Organization
) -> None:
    write(MAY)
    old = Record.objects.earliest("created_at").pk
    ours = {old, *told.values()}
    now = timezone.now()
    choices: list[tuple[dict[str, object], set[int]]] = [
        ({"action": "tags.changed"}, {told["vera"]}),
        ({"action": "access.*"}, {told["tom"]}),
        ({"outcome__exact": "refused"}, {told["tom"]}),
        ({"actor_kind__exact": "service"}, {told["tom"]}),
        ({"organization": Organization.objects.get(slug="toms").pk}, {told["tom"]}),
        ({"time": "hour"}, set(told.values())),
        ({"time": f"{now:%Y-%m}"}, set(told.values())),
        ({"time": f"{now:%Y-%m-%d}"}, set(told.values())),
        ({"time": "2001-05"}, {old}),
        ({"time": "2001-05-17"}, {old}),
        ({"time": "2001-05-18"}, set()),
        ({"time": "nonsense"}, ours),
        ({"time": "hour", "action": "tags.changed"}, {told["vera"]}),
    ]
    for query, expected in choices:
        found = listed(staff.get(RECORDS, {name: str(value) for name, value in query.items()}))
        assert found & ours == expected, query


def test_the_filter_offers_the_days_of_the_month_that_is_chosen(staff: Client) -> None:
    month = f"{timezone.now():%Y-%m}"
    assert f"{month}-01" not in staff.get(RECORDS).content.decode()
    page = staff.get(RECORDS, {"time": month}).content.decode()
    assert f"{month}-01" in page
    assert f"{month}-28" in page


def test_the_page_of_a_record_shows_its_details(staff: Client, told: dict[str, int]) -> None:
    hostile = {"reason": "<script>alert(1)</script>"}
    record(Entry(Action.ACCESS_REFUSED, requester_of("mallory"), Outcome.REFUSED, details=hostile))
    row = Record.objects.get(actor_name="user:mallory")
    page = staff.get(f"{RECORDS}{row.pk}/change/").content.decode()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert hostile["reason"] not in page


def requester_of(name: str) -> Author:
    request = HttpRequest()
    request.user = User(username=name)
    return requester(request)


# --- The vocabulary ------------------------------------------------------------------------------------------------


def test_the_documentation_names_every_action_and_no_other() -> None:
    rows = re.findall(r"^\| `([a-z_.]+)` \|", (ROOT / "docs" / "audit.md").read_text(), flags=re.MULTILINE)
    assert sorted(rows) == sorted(Action.values)


def test_every_action_is_tried_here() -> None:
    source = Path(__file__).read_text()
    assert [action for action in Action.values if f'"{action}"' not in source] == []


def test_the_migration_knows_the_vocabulary(db: None) -> None:
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


def test_a_service_names_an_author_who_came_by_no_request(execution: FlowExecution) -> None:
    actor = make_actor(execution.organization)
    news = News()
    operation = TagOperation(
        operation="add", flow_execution_id=execution.pk, task_name="extract", tag="approved", tag_type="review"
    )
    change_task_tags(actor=actor, operations=[operation])
    (changed,) = news
    assert (changed.actor_name, changed.address, changed.request_id) == (actor.name, None, "")


def test_a_status_batch_writes_no_record(organization: Organization, execution: FlowExecution) -> None:
    worker = Api(make_token(organization))
    news = News()
    worker.post(f"/api/flow-executions/{execution.pk}/task-status", statuses(("extract", "running")))
    assert news.actions == []
