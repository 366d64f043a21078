"""Who watches an organization is told which of its flows changed, whatever gets lost on the way."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from executions.models import FlowExecution
from flowplatform.accounts.models import Organization
from notifications.changes import horizon, look
from notifications.layer import changes_message, layer_sender
from notifications.models import Event, Stream
from notifications.relay import number_pending
from tests.builders import make_execution, make_flow, make_organization, make_token
from tests.conftest import Platform
from tests.servers import DATA_DIR
from tests.stack import Stack
from tests.test_sockets import close_code_of as close_code_of_flow
from tests.test_sockets import frame_from, report, session_cookie, settle
from tests.test_sockets import watching as watching_flow

Json = dict[str, Any]


@pytest.fixture
def organization(committed: None) -> Organization:
    return make_organization(f"watched-{uuid4().hex}")


@pytest.fixture
def execution(organization: Organization) -> FlowExecution:
    return make_execution(make_flow(organization, "extract", "classify"))


@pytest.fixture
def token(organization: Organization) -> str:
    return make_token(organization)


@asynccontextmanager
async def watching(
    platform: Stack, organization_id: object, token: str | None = None, **headers: str
) -> AsyncIterator[ClientConnection]:
    if token:
        headers["Authorization"] = f"Bearer {token}"
    address = f"{platform.ws_url}/ws/organizations/{organization_id}"
    async with connect(address, additional_headers=headers, proxy=None) as socket:
        yield socket


@asynccontextmanager
async def greeted(
    platform: Stack, organization: Organization, token: str | None = None, **headers: str
) -> AsyncIterator[ClientConnection]:
    """Watch an organization, past the hello."""
    async with watching(platform, organization.pk, token, **headers) as socket:
        assert await frame_from(socket) == {"type": "hello", "organization_id": str(organization.pk)}
        yield socket


def changes_in(frame: Json) -> dict[UUID, int]:
    """Return the offsets that a frame tells, by flow."""
    assert frame.keys() == {"type", "flows"}
    assert frame["type"] == "changed"
    assert all(flow.keys() == {"flow_id", "offset"} for flow in frame["flows"])
    return {UUID(flow["flow_id"]): flow["offset"] for flow in frame["flows"]}


async def changes_from(socket: ClientConnection, flow_ids: set[UUID], seconds: float) -> dict[UUID, int]:
    """Return the offsets of all flows that are told until the given ones were."""
    told: dict[UUID, int] = {}
    async with asyncio.timeout(seconds):
        while not flow_ids <= told.keys():
            told |= changes_in(await frame_from(socket, seconds))
    return told


async def silence_of(socket: ClientConnection, seconds: float) -> None:
    """Hold that no flow is told for so long."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(seconds):
            raise AssertionError(await frame_from(socket, seconds + 1))


def refusal_of(
    platform: Platform, organization_id: object, token: str | None = None, **headers: str
) -> tuple[Any, ...]:
    """Return everything that a refused client receives."""

    async def story() -> tuple[Any, ...]:
        async with watching(platform, organization_id, token, **headers) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await asyncio.wait_for(socket.recv(), 10)
            assert closed.value.rcvd is not None
            assert socket.response is not None
            answered = sorted(name for name, _ in socket.response.headers.raw_items())
            return closed.value.rcvd.code, closed.value.rcvd.reason, answered

    return asyncio.run(story())


def number_unsent(execution: FlowExecution) -> int:
    """Write an event and number it as a relay that dies before it sends; return its offset."""
    with transaction.atomic():
        write_event(execution)
        (numbered,) = number_pending([execution.flow_id])
    connection.close()
    return numbered[execution.flow_id][-1][0]


def write_event(execution: FlowExecution) -> None:
    """Write an event that nobody is told of."""
    Event.objects.create(
        organization_id=execution.organization_id,
        flow_id=execution.flow_id,
        flow_execution_id=execution.pk,
        type="flow_execution.updated",
        data={},
        created_at=timezone.now(),
    )


# --- What is told -----------------------------------------------------------------------------------------------------


def test_members_and_tokens_are_told_of_a_batch_within_two_seconds(
    platform: Platform, organization: Organization, token: str, execution: FlowExecution
) -> None:
    offset = settle(execution)
    everywhere = make_token(None)  # a system service account
    cookie = session_cookie(organization)

    async def story() -> None:
        async with (
            greeted(platform, organization, token) as service,
            greeted(platform, organization, everywhere) as system,
            greeted(platform, organization, Cookie=cookie, Origin=platform.url) as member,
        ):
            await asyncio.to_thread(report, platform, token, execution, ("extract", "running"))
            for socket in (service, system, member):
                told = await changes_from(socket, {execution.flow_id}, 2)
                assert told[execution.flow_id] == offset + 1

    asyncio.run(story())


def test_what_comes_one_by_one_is_gathered_to_a_few_frames_a_second(
    platform: Platform, organization: Organization, token: str
) -> None:
    flow_ids = [uuid4() for _ in range(40)]

    async def story() -> None:
        async with greeted(platform, organization, token) as socket:
            begin = time.monotonic()
            for flow_id in flow_ids:
                message = changes_message(organization.pk, {flow_id: 1})
                assert await asyncio.to_thread(layer_sender.send, [message])
                await asyncio.sleep(0.025)
            told: dict[UUID, int] = {}
            frames = 0
            while told.keys() != set(flow_ids):
                told |= changes_in(await frame_from(socket, 5))
                frames += 1
            assert frames <= 2 + 3 * (time.monotonic() - begin)

    asyncio.run(story())


def test_many_changes_are_told_to_the_last_and_none_twice(
    platform: Platform, organization: Organization, token: str
) -> None:
    executions = [make_execution(make_flow(organization, "extract")) for _ in range(12)]
    offsets = {execution.flow_id: settle(execution) for execution in executions}

    async def story() -> None:
        async with greeted(platform, organization, token) as socket:
            writers = [
                asyncio.to_thread(report, platform, token, execution, ("extract", f"step {number}"))
                for number in range(5)
                for execution in executions
            ]
            await asyncio.gather(*writers)
            wanted = {flow_id: offset + 5 for flow_id, offset in offsets.items()}
            told: dict[UUID, int] = {}
            while told != wanted:
                told |= changes_in(await frame_from(socket, 5))
            await silence_of(socket, 6)  # the looks at the database find nothing new

    asyncio.run(story())


def test_a_new_flow_is_told_before_anything_happens_in_it(
    platform: Platform, organization: Organization, token: str
) -> None:
    async def story() -> None:
        async with greeted(platform, organization, token) as socket:
            flow = await asyncio.to_thread(in_thread, lambda: make_flow(organization, "extract"))
            told = await changes_from(socket, {flow.pk}, 15)
            assert told[flow.pk] == 0

    asyncio.run(story())


def in_thread(work: Callable[[], Any]) -> Any:
    try:
        return work()
    finally:
        connection.close()


def test_other_organizations_are_not_told(
    platform: Platform, organization: Organization, token: str, execution: FlowExecution
) -> None:
    settle(execution)
    strangers = make_organization(f"strangers-{uuid4().hex}")
    theirs = make_token(strangers)

    async def story() -> None:
        async with (
            greeted(platform, strangers, theirs) as socket,
            greeted(platform, organization, token) as ours,
        ):
            await asyncio.to_thread(report, platform, token, execution, ("extract", "running"))
            await changes_from(ours, {execution.flow_id}, 2)
            await asyncio.to_thread(number_unsent, execution)
            await changes_from(ours, {execution.flow_id}, 15)
            await silence_of(socket, 6)

    asyncio.run(story())


# --- What gets lost ---------------------------------------------------------------------------------------------------


def test_a_change_that_the_channel_layer_lost_is_told_within_seconds(
    platform: Platform, organization: Organization, token: str, execution: FlowExecution
) -> None:
    settle(execution)

    async def story() -> None:
        async with greeted(platform, organization, token) as socket:
            offset = await asyncio.to_thread(number_unsent, execution)
            told = await changes_from(socket, {execution.flow_id}, 15)
            assert told == {execution.flow_id: offset}
            await silence_of(socket, 6)

    asyncio.run(story())


def test_a_stream_that_was_set_back_is_told(
    platform: Platform, organization: Organization, token: str, execution: FlowExecution
) -> None:
    settle(execution)

    def set_back() -> None:
        with transaction.atomic():
            Event.objects.filter(flow_id=execution.flow_id).delete()
            with connection.cursor() as cursor:
                cursor.execute(
                    'UPDATE notifications_stream SET "offset" = 0, changed_in = pg_current_xact_id()::text::bigint'
                    " WHERE flow_id = %s",
                    [execution.flow_id],
                )
        connection.close()

    async def story() -> None:
        async with greeted(platform, organization, token) as socket:
            await asyncio.to_thread(report, platform, token, execution, ("extract", "running"))
            await changes_from(socket, {execution.flow_id}, 2)
            await asyncio.to_thread(set_back)
            told = await changes_from(socket, {execution.flow_id}, 15)
            assert told == {execution.flow_id: 0}

    asyncio.run(story())


@pytest.fixture
def alone(committed: None, without_platform: None, tmp_path: Path) -> Iterator[Stack]:
    """A live process without Celery and without Redis."""
    stack = Stack(DATA_DIR, {"REDIS_URL": f"unix://{tmp_path}/nobody.sock"})
    stack.start("live")
    yield stack
    stack.stop()


def test_without_redis_and_celery_changes_of_many_flows_are_told_within_15_seconds(
    alone: Stack, organization: Organization, token: str, execution: FlowExecution
) -> None:
    flows = [Stream(flow_id=uuid4(), organization=organization) for _ in range(300)]
    Stream.objects.bulk_create(flows)

    async def story() -> None:
        async with greeted(alone, organization, token) as socket:
            await asyncio.to_thread(in_thread, write_everywhere)
            await changes_from(socket, {flow.flow_id for flow in flows}, 15)

    def write_everywhere() -> None:
        Event.objects.bulk_create(
            Event(organization_id=organization.pk, flow_id=flow.flow_id, type="x", data={}, created_at=timezone.now())
            for flow in flows
        )

    asyncio.run(story())


def test_a_look_misses_no_transaction_that_commits_late(organization: Organization) -> None:
    flows = [make_flow(organization, "extract").pk for _ in range(2)]
    begin = horizon()
    late, early = (connection.copy() for _ in range(2))
    raise_offset = """
        UPDATE notifications_stream SET "offset" = "offset" + 1, changed_in = pg_current_xact_id()::text::bigint
        WHERE flow_id = %s
    """
    try:
        late.set_autocommit(False)
        with late.cursor() as cursor:
            cursor.execute(raise_offset, [flows[0]])
        with early.cursor() as cursor:
            cursor.execute(raise_offset, [flows[1]])
        first = look([organization.pk], since=begin)
        assert first.changed[organization.pk][flows[1]] == 1
        assert first.changed[organization.pk].get(flows[0], 0) == 0
        late.commit()
        second = look([organization.pk], since=first.horizon)
        assert second.changed[organization.pk][flows[0]] == 1
        assert second.horizon >= first.horizon
    finally:
        late.close()
        early.close()


def test_a_look_reads_what_changed_by_an_index(as_owner: None, organization: Organization) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO notifications_stream (flow_id, organization_id, epoch, changed_in)"
                " SELECT gen_random_uuid(), %s, gen_random_uuid(), i FROM generate_series(1, 20000) AS i",
                [organization.pk],
            )
            cursor.execute("ANALYZE notifications_stream")
        plans: list[str] = []

        def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Json) -> Any:
            execute(f"EXPLAIN {sql}", params, many, context)
            plans.append("\n".join(row[0] for row in context["cursor"].fetchall()))
            return execute(sql, params, many, context)

        with connection.execute_wrapper(explain):
            assert len(look([organization.pk], since=19_990).changed[organization.pk]) == 11
        transaction.set_rollback(True)
    assert "stream_changes" in plans[0]
    assert "Seq Scan" not in plans[0]


# --- Keeping open -----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_socket_that_was_idle_for_12_seconds_still_receives(
    platform: Platform, organization: Organization, token: str, execution: FlowExecution
) -> None:
    settle(execution)

    async def story() -> None:
        async with greeted(platform, organization, token) as socket:
            assert json.loads(await asyncio.wait_for(socket.recv(), 15)) == {"type": "heartbeat"}
            await asyncio.sleep(12)
            await asyncio.to_thread(report, platform, token, execution, ("extract", "at last"))
            await changes_from(socket, {execution.flow_id}, 2)

    asyncio.run(story())


# --- Who is let in ----------------------------------------------------------------------------------------------------


def test_a_stranger_sees_no_difference_to_an_organization_that_does_not_exist(
    platform: Platform, organization: Organization
) -> None:
    strangers = make_organization(f"strangers-{uuid4().hex}")
    credentials: list[Json] = [
        {"token": make_token(strangers)},
        {"Cookie": session_cookie(strangers, "admin"), "Origin": platform.url},
    ]
    for credential in credentials:
        refusals = [refusal_of(platform, one, **credential) for one in (organization.pk, uuid4(), "nonsense")]
        assert refusals[0] == refusals[1] == refusals[2]
        assert refusals[0][0] == 4404
    assert refusal_of(platform, uuid4(), make_token(None))[0] == 4404


def test_nobody_is_told_nothing(platform: Platform, organization: Organization) -> None:
    blind = make_token(organization, ["status:write"])
    cookie = session_cookie(organization, "admin")
    for credential in (
        {},
        {"token": "nonsense"},
        {"token": blind},
        {"Cookie": f"{settings.SESSION_COOKIE_NAME}=nonsense"},
        {"Cookie": cookie, "Origin": "https://evil.example"},
    ):
        assert refusal_of(platform, organization.pk, **credential)[0] == 4401  # type: ignore[arg-type]


def test_sockets_of_flows_and_of_organizations_are_counted_together(
    platform: Platform, organization: Organization, token: str, execution: FlowExecution
) -> None:
    async def story() -> None:
        async with AsyncExitStack() as stack:
            for number in range(settings.SOCKETS_PER_ACTOR):
                opening = (
                    watching(platform, organization.pk, token)
                    if number % 2
                    else watching_flow(platform, execution.flow_id, token)
                )
                assert (await frame_from(await stack.enter_async_context(opening)))["type"] == "hello"
            assert await close_code_of_flow(platform, execution.flow_id, token) == 4429
            async with watching(platform, organization.pk, token) as socket:
                with pytest.raises(ConnectionClosed) as closed:
                    await frame_from(socket)
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 4429

    asyncio.run(story())
