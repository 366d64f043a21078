"""Tokens and people: how credentials are made, used and ended."""

from datetime import timedelta

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.test import Client
from django.utils import timezone

from flowplatform.accounts.models import SCOPES, Organization, ServiceAccount, ServiceToken
from flowplatform.accounts.services import authenticate_token, ensure_member, issue_service_token
from tests.builders import (
    Api,
    error_of,
    make_execution,
    make_flow,
    make_member,
    make_organization,
    make_token,
    statuses,
)


def token_of(raw: str) -> ServiceToken:
    return ServiceToken.objects.get(prefix=raw.partition(".")[0])


def test_the_command_prints_the_token_alone_and_stores_only_its_hash(
    db: None, capsys: pytest.CaptureFixture[str]
) -> None:
    call_command("create_service_token", "--organization", "acme", "--name", "doc-3")
    raw = capsys.readouterr().out.removesuffix("\n")
    token = token_of(raw)
    assert token.service_account.organization == Organization.objects.get(slug="acme")
    assert (token.service_account.name, sorted(token.scopes), token.expiry_date) == ("doc-3", sorted(SCOPES), None)
    assert raw.partition(".")[2] not in str(ServiceToken.objects.filter(pk=token.pk).values())


def test_the_command_takes_scopes_and_an_expiry(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("create_service_token", organization="acme", name="w", scope=["read", "status:write"], expires=30)
    token = token_of(capsys.readouterr().out.strip())
    assert set(token.scopes) == {"read", "status:write"}
    assert token.expiry_date is not None
    assert timedelta(days=29) < token.expiry_date - timezone.now() <= timedelta(days=30)


def test_a_system_token_acts_in_every_organization(db: None, capsys: pytest.CaptureFixture[str]) -> None:
    call_command("create_service_token", system=True, name="everywhere")
    actor = authenticate_token(capsys.readouterr().out.strip())
    assert actor is not None
    assert actor.organization_ids is None
    assert all(actor.acts_in(make_organization().pk) for _ in range(2))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--name", "x"],
        ["--organization", "not a slug", "--name", "x"],
        ["--organization", "a", "--name", ""],
        ["--organization", "a", "--name", "x", "--scope", "everything"],
        ["--organization", "a", "--name", "x", "--expires", "0"],
        ["--organization", "a", "--name", "x", "--expires", "soon"],
    ],
)
def test_a_wrong_argument_is_refused_and_nothing_is_made(db: None, arguments: list[str]) -> None:
    with pytest.raises(CommandError):
        call_command("create_service_token", *arguments)
    assert not ServiceToken.objects.exists()
    assert not Organization.objects.exists()


def test_a_second_token_of_a_name_is_of_the_same_account(organization: Organization) -> None:
    first, second = (
        token_of(make_token_named(organization, "doc-3")),
        token_of(make_token_named(organization, "doc-3")),
    )
    assert first.pk != second.pk
    assert first.service_account == second.service_account


def make_token_named(organization: Organization, name: str) -> str:
    return issue_service_token(organization=organization, name=name, scopes=["read"])


def test_the_use_of_a_token_is_noted_at_most_once_a_minute(organization: Organization) -> None:
    raw = make_token(organization)
    authenticate_token(raw)
    first = token_of(raw).last_used_at
    authenticate_token(raw)
    assert first is not None
    assert token_of(raw).last_used_at == first
    ServiceToken.objects.update(last_used_at=timezone.now() - timedelta(minutes=2))
    authenticate_token(raw)
    last = token_of(raw).last_used_at
    assert last is not None
    assert last > first


def test_a_page_behind_a_proxy_with_a_password_of_its_own_still_knows_who_is_signed_in(
    organization: Organization,
) -> None:
    client = Client()
    client.force_login(make_member(organization, "viewer", username="vera"))
    page = client.get("/", headers={"Authorization": "Basic cHJveHk6cGFzc3dvcmQ="})
    assert page.status_code == 200
    assert "vera" in page.content.decode()


def test_a_revoked_token_ends_at_the_next_request(organization: Organization) -> None:
    raw = make_token(organization)
    assert Api(raw).get("/api/flows").status_code == 200
    token_of(raw).revoke()
    assert Api(raw).get("/api/flows").status_code == 401
    assert token_of(raw).revoked_at is not None


def test_the_database_refuses_unknown_scopes_and_a_second_account_of_a_name(organization: Organization) -> None:
    raw = make_token(organization)
    with pytest.raises(IntegrityError), transaction.atomic():
        ServiceToken.objects.filter(pk=token_of(raw).pk).update(scopes=["everything"])
    for owner in (organization, None):
        ServiceAccount.objects.create(organization=owner, name="twin")
        with pytest.raises(IntegrityError), transaction.atomic():
            ServiceAccount.objects.create(organization=owner, name="twin")


def test_a_person_sees_the_organizations_of_all_memberships_and_no_other(organization: Organization) -> None:
    person = make_member(organization, "viewer")
    other, foreign = make_organization(), make_organization()
    make_flow(organization, display_name="mine")
    make_flow(other, display_name="also mine")
    make_flow(foreign, display_name="not mine")
    ensure_member(user=person, organization=other, role="member")
    names = {flow["display_name"] for flow in Api(user=person).get("/api/flows").json()}
    assert names == {"mine", "also mine"}


def test_a_removed_member_and_a_switched_off_user_lose_access_at_once(organization: Organization) -> None:
    make_flow(organization)
    removed, off = make_member(organization), make_member(organization)
    removed_api, off_api = Api(user=removed), Api(user=off)
    assert len(removed_api.get("/api/flows").json()) == 1
    removed.memberships.all().delete()
    assert removed_api.get("/api/flows").json() == []
    off.is_active = False
    off.save()
    assert off_api.get("/api/flows").status_code == 401


def test_a_write_by_session_needs_the_csrf_token(organization: Organization) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_member(organization, "admin"))
    flow = make_flow(organization)
    body = {"flow_id": str(flow.pk), "input": {}}
    refused = client.post("/api/flow-executions", body, content_type="application/json")
    assert (refused.status_code, error_of(refused)["code"]) == (403, "forbidden")  # type: ignore[arg-type]


@pytest.mark.parametrize("content_type", ["multipart/form-data", "application/x-www-form-urlencoded", "text/plain"])
def test_a_person_may_send_a_body_where_none_is_expected_as_a_token_may(
    organization: Organization, content_type: str
) -> None:
    execution = make_execution(make_flow(organization))
    path = f"/api/flow-executions/{execution.pk}/cancel"
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_member(organization))
    client.cookies[settings.CSRF_COOKIE_NAME] = token = "c" * 32
    answer = client.generic("POST", path, b"no=json", content_type, headers={"X-CSRFToken": token})
    assert answer.status_code == 204
    assert Api(make_token(organization))("POST", path, b"no=json", content_type=content_type).status_code == 204


def test_a_wrong_token_is_401_even_beside_a_valid_session(organization: Organization) -> None:
    person = Api(user=make_member(organization))
    assert person.get("/api/flows").status_code == 200
    assert person.get("/api/flows", Authorization="Bearer nonsense").status_code == 401


@pytest.mark.parametrize("cookie", ['"\\000aaaaaaaaaaaaaaa"', "x", "a" * 5000, "ä" * 32])
def test_a_cookie_that_is_no_session_key_is_no_session(db: None, cookie: str) -> None:
    client = Client(raise_request_exception=False, headers={"Cookie": f"{settings.SESSION_COOKIE_NAME}={cookie}"})
    assert client.get("/api/flows").status_code == 401
    assert client.get("/login/").status_code == 200
    assert client.get("/").status_code == 302


def test_a_token_with_a_session_is_the_token(organization: Organization) -> None:
    """A viewer's browser that also sends a service token may do what the token may."""
    execution_path = "/api/flow-executions"
    flow = make_flow(organization)
    viewer = Api(user=make_member(organization, "viewer"))
    header = {"Authorization": f"Bearer {make_token(organization)}"}
    execution = viewer.post(execution_path, {"flow_id": str(flow.pk), "input": {}}, **header).json()
    path = f"{execution_path}/{execution['id']}/task-status"
    assert viewer.post(path, statuses(("extract", "running")), **header).status_code == 200
