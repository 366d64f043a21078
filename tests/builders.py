"""What tests are made of: organizations, people, tokens, flows and executions, each with a plain builder."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from django.http import HttpResponse
from django.test import Client

from executions.models import Flow, FlowExecution
from executions.schemas import FlowDefinition
from executions.services import create_flow, queue_execution
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import SCOPES, Organization, User
from flowplatform.accounts.services import (
    authenticate_token,
    ensure_member,
    ensure_organization,
    issue_service_token,
)

_numbers = itertools.count(1)
PASSWORD = "correct horse battery staple"


def make_organization(slug: str = "") -> Organization:
    return ensure_organization(slug=slug or f"organization-{next(_numbers)}")


def make_member(organization: Organization, role: str = "member", username: str = "") -> User:
    user = User.objects.create_user(username or f"user-{next(_numbers)}", password=PASSWORD)
    ensure_member(user=user, organization=organization, role=role)
    return user


def make_token(
    organization: Organization | None, scopes: Sequence[str] = SCOPES, expires_in: timedelta | None = None
) -> str:
    name = f"service-{next(_numbers)}"
    return issue_service_token(organization=organization, name=name, scopes=scopes, expires_in=expires_in)


def make_actor(organization: Organization) -> Actor:
    actor = authenticate_token(make_token(organization))
    assert actor is not None
    return actor


def definition(*names: str, **depends_on: list[str]) -> dict[str, Any]:
    return {"tasks": [{"name": name, "depends_on": depends_on.get(name, [])} for name in names]}


def make_flow(organization: Organization, *names: str, display_name: str = "Invoices") -> Flow:
    return create_flow(
        actor=make_actor(organization),
        organization_id=organization.pk,
        display_name=display_name,
        description="",
        definition=FlowDefinition.model_validate(definition(*(names or ("extract", "classify", "report")))),
    )


def make_flow_of(organization: Organization, /, **tasks: list[str]) -> Flow:
    """Make a flow of tasks, each with the names of those it depends on."""
    return create_flow(
        actor=make_actor(organization),
        organization_id=organization.pk,
        display_name="Invoices",
        description="",
        definition=FlowDefinition.model_validate(definition(*tasks, **tasks)),
    )


def make_execution(flow: Flow) -> FlowExecution:
    return queue_execution(actor=make_actor(flow.organization), flow=flow, input={})


@dataclass
class Api:
    """A client of the API in this process: a token, a signed-in person, or nobody."""

    token: str | None = None
    user: User | None = None

    def __post_init__(self) -> None:
        self._client = Client(raise_request_exception=False)
        if self.user:
            self._client.force_login(self.user)

    def __call__(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json", **headers: str
    ) -> HttpResponse:
        data = body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        response = self._client.generic(method, path, data, content_type=content_type, headers=headers)
        assert isinstance(response, HttpResponse)
        return response

    def get(self, path: str, **headers: str) -> HttpResponse:
        return self("GET", path, **headers)

    def post(self, path: str, body: object, **headers: str) -> HttpResponse:
        return self("POST", path, body, **headers)


def statuses(*pairs: tuple[str, str]) -> dict[str, Any]:
    """Return the body of a status batch."""
    return {"statuses": [{"task_name": name, "status": status} for name, status in pairs]}


def error_of(response: HttpResponse) -> dict[str, Any]:
    """Return the error of an answer in the envelope, having checked the envelope."""
    body = response.json()  # type: ignore[attr-defined]
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"message", "code", "details"}
    assert body["request_id"] == response["X-Request-ID"]
    error: dict[str, Any] = body["error"]
    return error


def without_id(response: HttpResponse) -> bytes:
    """Return an answer's bytes without the one thing that always differs: the request id."""
    return bytes(response.content).replace(response["X-Request-ID"].encode(), b"")
