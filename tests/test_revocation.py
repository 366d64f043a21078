"""What is taken away is gone: a revoked token, a removed member, a user who is switched off, in every process.

Requests are refused from the next one on; open sockets are closed within five seconds, and nobody else's.
"""

import asyncio
import json
import threading
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from benchmarks.live_sockets import Crowd
from executions.models import FlowExecution
from flowplatform.accounts.models import SCOPES, Membership, Organization, ServiceAccount, ServiceToken, User
from flowplatform.accounts.services import ensure_member, issue_service_token
from notifications.models import Stream
from tests.builders import make_execution, make_flow, make_organization, make_token
from tests.cast import Asker, make_scene, service, signed_in
from tests.conftest import Platform
from tests.routes import Ask, Request, api_asks, page_asks, send
from tests.test_odd_requests import client_of
from tests.test_sockets import frame_from, report, settle
from tests.test_tenants import rows_of, values_of

pytestmark = pytest.mark.usefixtures("committed")

PROMISED = 5.0  # seconds until an open socket is closed


@pytest.fixture
def organization(committed: None) -> Organization:
    return make_organization(f"revoked-{uuid4().hex}")


@pytest.fixture
def execution(organization: Organization) -> FlowExecution:
    return make_execution(make_flow(organization))


def token_of(raw: str) -> ServiceToken:
    return ServiceToken.objects.get(prefix=raw.partition(".")[0])


def revoke(raw: str) -> None:
    token_of(raw).revoke()
    connection.close()


def make_person(organization: Organization, role: str = "member") -> User:
    user = User.objects.create(username=f"user-{uuid4().hex}")  # no password: hashing takes its time
    ensure_member(user=user, organization=organization, role=role)
    return user


def client_with(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def key_of(client: Client) -> str:
    return client.cookies[settings.SESSION_COOKIE_NAME].value


# --- Requests ---------------------------------------------------------------------------------------------------------

WAYS: dict[str, Callable[[ServiceToken], object]] = {
    "revoked": ServiceToken.revoke,
    "expired": lambda token: ServiceToken.objects.filter(pk=token.pk).update(expiry_date=timezone.now()),
    "deleted": ServiceToken.delete,
    "of a deleted account": lambda token: token.service_account.delete(),
}


class Process:
    """One of two processes that remember tokens by themselves: this one, or the platform's."""

    def __init__(self, asker: Asker, http: httpx.Client | None = None) -> None:
        self._asker, self._http = asker, http

    def status(self, request: Request) -> int:
        """Send a request with the credential."""
        if self._http is None:
            return send(client_of(self._asker), request).status_code
        headers = {**request.headers, **self._asker.headers, "Content-Type": "application/json"}
        cookies = "; ".join(f"{name}={value}" for name, value in self._asker.cookies.items())
        headers |= {"Cookie": cookies} if cookies else {}
        return self._http.request(request.method, request.address, content=request.body, headers=headers).status_code


@pytest.fixture
def asks(organization: Organization) -> list[Request]:
    """Every request of the API and of the pages, about what there is; reads first, so that it is there for them."""
    values = values_of(organization, make_scene(organization), "nobody")
    filled = [ask.filled(lambda _, name: values[name]) for ask in [*api_asks(), *page_asks()] if not is_open(ask)]
    return sorted(filled, key=lambda request: request.method != "GET")


def is_open(ask: Ask) -> bool:
    """Say whether a request is for everybody."""
    return ask.path in ("/login/", "/logout/", "/api/schema/", "/api/docs/")


def written(organization: Organization) -> str:
    """Return all that requests can write. Events are numbered meanwhile; each comes with a row of another table."""
    return rows_of(organization, but=("notifications_event", "notifications_stream"))


@pytest.mark.parametrize("way", WAYS)
def test_an_ended_token_is_refused_from_the_next_request_on_in_every_process(
    platform: Platform, organization: Organization, asks: list[Request], way: str
) -> None:
    asker = service(organization, SCOPES)
    with httpx.Client(base_url=platform.url) as http:
        processes = [Process(asker), Process(asker, http)]
        requests = [request for request in asks if request.address.startswith("/api/")]
        trusting = [
            request for request in requests if "task-status" in request.address or "/task-tags" in request.address
        ]
        for process in processes:  # each one remembers the token, and what it wrote about
            assert all(process.status(request) in (200, 409) for request in trusting)
        token = token_of(asker.headers["Authorization"].removeprefix("Bearer "))
        WAYS[way](token)
        before = written(organization)
        for process in processes:
            assert {process.status(request) for request in requests} == {401}
        assert written(organization) == before


def test_who_is_switched_off_or_signed_out_is_refused_from_the_next_request_on_in_every_process(
    platform: Platform, organization: Organization, asks: list[Request]
) -> None:
    ways: dict[str, Callable[[User], object]] = {
        "switched off": lambda user: User.objects.filter(pk=user.pk).update(is_active=False),
        "another password": lambda user: User.objects.filter(pk=user.pk).update(password="another"),
        "a deleted session": lambda user: Session.objects.filter(pk=key_in(asker)).delete(),
    }
    with httpx.Client(base_url=platform.url) as http:
        for way, end in ways.items():
            name = f"{way} {uuid4()}"
            asker = signed_in(organization, "member", username=name)
            for process in (Process(asker), Process(asker, http)):
                assert process.status(asks[0]) == 200
            end(User.objects.get(username=name))
            before = written(organization)
            for process in (Process(asker), Process(asker, http)):
                for request in asks:
                    refused = {401} if request.address.startswith("/api/") else {302, 401}  # to the sign-in
                    assert process.status(request) in refused, f"{way}: {request}"
            assert written(organization) == before


def key_in(asker: Asker) -> str:
    return asker.cookies[settings.SESSION_COOKIE_NAME]


def test_a_removed_member_and_one_who_became_a_viewer_write_nothing_from_the_next_request_on(
    platform: Platform, organization: Organization, asks: list[Request]
) -> None:
    """What a removed member is told is that nothing is there; `tests/test_tenants.py` holds the very bytes."""
    names = [f"{way}-{uuid4()}" for way in ("removed", "demoted")]
    removed, demoted = (signed_in(organization, "admin", username=name) for name in names)
    writes = [request for request in asks if request.method != "GET"]
    with httpx.Client(base_url=platform.url) as http:
        for asker in (removed, demoted):
            assert {Process(asker, *way).status(asks[0]) for way in ((), (http,))} == {200}
        Membership.objects.filter(user__username=names[0]).delete()
        Membership.objects.filter(user__username=names[1]).update(role="viewer")
        before = written(organization)
        for asker, refused in ((removed, {400, 403, 404}), (demoted, {403})):
            for process in (Process(asker), Process(asker, http)):
                assert {process.status(request) for request in writes} <= refused
        assert Process(removed).status(asks[0]) == 404
        assert Process(demoted).status(asks[0]) == 200
        assert written(organization) == before


# --- Sockets ----------------------------------------------------------------------------------------------------------


@dataclass
class Watcher:
    """A credential that opens sockets, and how it ends, if it does."""

    headers: dict[str, str]
    end: Callable[[], object] | None = None
    code: int | None = None
    path: str = ""  # another one than that of the flow and of the organization


def with_token(raw: str, **ending: Any) -> Watcher:
    return Watcher({"Authorization": f"Bearer {raw}"}, **ending)


def with_session(client: Client, **ending: Any) -> Watcher:
    return Watcher({"Cookie": f"{settings.SESSION_COOKIE_NAME}={key_of(client)}"}, **ending)


def change_password(user: User) -> None:
    user.set_password("another one")
    user.save()


def demote(user: User, organization: Organization) -> None:
    ensure_member(user=user, organization=organization, role="viewer")


def watchers(organization: Organization, flow_id: object) -> dict[str, Watcher]:
    """Return a watcher for every way in which access ends, and those beside them who must not notice."""
    tokens = {
        name: make_token(organization) for name in ("revoked", "expired", "deleted", "of a deleted account", "blinded")
    }
    twin = issue_service_token(
        organization=organization, name=token_of(tokens["revoked"]).service_account.name, scopes=["read"]
    )
    off, gone, forgetful, left, demoted = (make_person(organization) for _ in range(5))
    busy = make_person(organization)
    out, ended, still = (client_with(busy) for _ in range(3))
    doomed, elsewhere = (make_organization(f"{one}-{uuid4().hex}") for one in ("doomed", "elsewhere"))
    ensure_member(user=left, organization=elsewhere, role="viewer")
    of_doomed, of_no_one = make_person(doomed), make_flow(elsewhere)
    system = make_token(None)

    def update(name: str, **values: Any) -> Callable[[], object]:
        return lambda: ServiceToken.objects.filter(pk=token_of(tokens[name]).pk).update(**values)

    return {
        "a revoked token": with_token(tokens["revoked"], end=token_of(tokens["revoked"]).revoke, code=4401),
        "an expired token": with_token(
            tokens["expired"], end=update("expired", expiry_date=timezone.now() - timedelta(seconds=1)), code=4401
        ),
        "a deleted token": with_token(tokens["deleted"], end=token_of(tokens["deleted"]).delete, code=4401),
        "a deleted service account": with_token(
            tokens["of a deleted account"],
            end=lambda: ServiceAccount.objects.filter(tokens=token_of(tokens["of a deleted account"])).delete(),
            code=4401,
        ),
        "a token that may not read any more": with_token(
            tokens["blinded"], end=update("blinded", scopes=["status:write"]), code=4401
        ),
        "a user who is switched off": with_session(
            client_with(off), end=lambda: User.objects.filter(pk=off.pk).update(is_active=False), code=4401
        ),
        "a deleted user": with_session(client_with(gone), end=gone.delete, code=4401),
        "another password": with_session(client_with(forgetful), end=lambda: change_password(forgetful), code=4401),
        "signing out": with_session(out, end=lambda: out.post("/logout/"), code=4401),
        "a deleted session": with_session(
            ended, end=lambda: Session.objects.filter(pk=key_of(ended)).delete(), code=4401
        ),
        "a removed member": with_session(
            client_with(left), end=left.memberships.filter(organization=organization).delete, code=4404
        ),
        "a deleted organization": with_session(
            client_with(of_doomed), end=doomed.delete, code=4404, path=f"/ws/organizations/{doomed.pk}"
        ),
        "a deleted flow": with_token(
            system,
            end=Stream.objects.filter(pk=of_no_one.pk).delete,
            code=4404,
            path=f"/ws/flows/{of_no_one.pk}",
        ),
        "another token of the same account": with_token(twin),
        "the same person, signed in elsewhere": with_session(still),
        "the removed member in another organization": with_session(
            client_with(left), path=f"/ws/organizations/{elsewhere.pk}"
        ),
        "a member who became a viewer": with_session(client_with(demoted), end=lambda: demote(demoted, organization)),
        "a system token": with_token(system),
    }


def test_what_ends_closes_its_sockets_within_five_seconds_and_no_others(
    platform: Platform, organization: Organization, execution: FlowExecution
) -> None:
    settle(execution)
    everyone = watchers(organization, execution.flow_id)
    writer = make_token(organization)
    usual = [f"/ws/flows/{execution.flow_id}", f"/ws/organizations/{organization.pk}"]
    opened: dict[tuple[str, str], ClientConnection] = {}

    def end_all() -> None:
        for watcher in everyone.values():
            if watcher.end:
                watcher.end()
        connection.close()

    async def story() -> None:
        async with AsyncExitStack() as stack:
            for name, watcher in everyone.items():
                for path in [watcher.path] if watcher.path else usual:
                    socket = connect(platform.ws_url + path, additional_headers=watcher.headers, proxy=None)
                    opened[name, path] = await stack.enter_async_context(socket)
                    assert (await frame_from(opened[name, path]))["type"] == "hello"
            await asyncio.to_thread(end_all)
            expected = {place: everyone[place[0]].code for place in opened}
            # A deleted flow is noticed by the look at the feeds, which is not promised within five seconds.
            closing = [ending_of(opened[place], PROMISED * (1 + (place[0] == "a deleted flow"))) for place in expected]
            closed = dict(zip(expected, await asyncio.gather(*closing), strict=True))
            assert closed == expected
            await asyncio.to_thread(report, platform, writer, execution, ("extract", "afterwards"))
            for place, code in expected.items():
                if code is None and place[1] in usual:
                    assert (await frame_from(opened[place], 5))["type"] in ("events", "changed")

    asyncio.run(story())


async def ending_of(socket: ClientConnection, seconds: float) -> int | None:
    """Return the code with which a socket is closed meanwhile; `None` if it stays open. Nothing else comes by it."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        try:
            frame = json.loads(await asyncio.wait_for(socket.recv(), left))
            assert frame["type"] in ("heartbeat", "changed"), frame
        except TimeoutError:
            break
        except ConnectionClosed as closed:
            return closed.rcvd and closed.rcvd.code
    return None


def test_a_thousand_sockets_cost_two_statements_a_look_and_only_the_ended_ones_close(
    platform: Platform, organization: Organization, execution: FlowExecution
) -> None:
    offset = settle(execution)
    tokens = [make_token(organization, ["read"]) for _ in range(20)]
    writer, flow_id = make_token(organization), str(execution.flow_id)

    async def story() -> None:
        crowd = Crowd(
            {
                "port": platform.port,
                "groups": ["all"],
                "watches": [("all", flow_id, tokens[number % 20]) for number in range(1_000)],
            }
        )
        await crowd.open()
        before = await asyncio.to_thread(transactions)
        await asyncio.sleep(4.5)  # two looks, at least
        spent = await asyncio.to_thread(transactions) - before
        assert spent < 1_000, f"{spent} transactions: each look asks for every socket by itself"
        await asyncio.to_thread(revoke, tokens[0])
        deadline = time.monotonic() + PROMISED
        while crowd.groups["all"].faults["closed with 4401"] < 50 and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        await asyncio.to_thread(report, platform, writer, execution, ("extract", "afterwards"))
        others = [one for one in crowd.sockets if not one.leaving]
        deadline = time.monotonic() + 10
        while any(one.position == offset for one in others) and time.monotonic() < deadline:
            await asyncio.sleep(0.05)
        assert {one.position for one in others} == {offset + 1}
        assert dict(crowd.groups["all"].faults) == {"closed with 4401": 50}
        for one in crowd.sockets:
            one.leave()

    asyncio.run(story())


def transactions() -> int:
    """Return how many transactions have ended in the database; every statement of a look is one."""
    time.sleep(1.2)  # PostgreSQL's processes tell once a second
    with connection.cursor() as cursor:
        cursor.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        count: int = cursor.fetchone()[0]
    connection.close()
    return count


def test_accounts_that_cannot_be_asked_close_nobody_and_what_ended_meanwhile_is_closed_afterwards(
    platform: Platform, organization: Organization, execution: FlowExecution
) -> None:
    tokens = [make_token(organization) for _ in range(2)]
    url = f"{platform.ws_url}/ws/flows/{execution.flow_id}"
    settle(execution)

    async def story() -> None:
        async with AsyncExitStack() as stack:
            sockets = []
            for token in tokens:
                opening = connect(url, additional_headers={"Authorization": f"Bearer {token}"}, proxy=None)
                sockets.append(await stack.enter_async_context(opening))
                await frame_from(sockets[-1])
            locked, over = threading.Event(), threading.Event()
            holding = asyncio.create_task(asyncio.to_thread(revoke_slowly, tokens[0], locked, over))
            await asyncio.to_thread(locked.wait, 10)
            assert [await ending_of(socket, 3) for socket in sockets] == [None, None]
            over.set()
            await holding
            assert await ending_of(sockets[0], PROMISED) == 4401
            assert await ending_of(sockets[1], 0.1) is None

    asyncio.run(story())


def revoke_slowly(token: str, locked: threading.Event, over: threading.Event) -> None:
    """Revoke a token, and until that is over let nobody else read any: whoever asks runs into a time limit."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE accounts_servicetoken IN ACCESS EXCLUSIVE MODE")
        token_of(token).revoke()
        locked.set()
        assert over.wait(30)
    connection.close()
