"""Browsers and services watch a flow over its socket: every event in order, or a reset."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils import timezone
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from executions.models import FlowExecution
from flowplatform.accounts.models import Organization
from flowplatform.accounts.services import issue_service_token
from notifications.models import Event, Stream
from notifications.relay import prune
from tests.builders import make_execution, make_flow, make_member, make_organization, make_token, statuses
from tests.conftest import Platform
from tests.stack import ROOT, Stack, wait_until

pytestmark = pytest.mark.usefixtures("committed")

_client = httpx.Client()


@pytest.fixture
def organization(committed: None) -> Organization:
    return make_organization(f"sockets-{uuid4().hex}")


@pytest.fixture
def execution(organization: Organization) -> FlowExecution:
    return make_execution(make_flow(organization, *(f"task-{index}" for index in range(20))))


@pytest.fixture
def token(organization: Organization) -> str:
    return make_token(organization)


def report(platform: Platform, token: str, execution: FlowExecution, *pairs: tuple[str, str]) -> list[dict[str, Any]]:
    url = f"{platform.url}/api/flow-executions/{execution.pk}/task-status"
    response = _client.post(url, json=statuses(*pairs), headers={"Authorization": f"Bearer {token}"})
    response.raise_for_status()
    answer: list[dict[str, Any]] = response.json()
    return answer


@asynccontextmanager
async def watching(
    platform: Stack, flow_id: object, token: str | None = None, query: str = "", **headers: str
) -> AsyncIterator[ClientConnection]:
    if token:
        headers["Authorization"] = f"Bearer {token}"
    async with connect(
        f"{platform.ws_url}/ws/flows/{flow_id}{query}", additional_headers=headers, proxy=None
    ) as socket:
        yield socket


async def frame_from(socket: ClientConnection, seconds: float = 10) -> dict[str, Any]:
    """Return the next frame that is no heartbeat."""
    while True:
        frame: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), seconds))
        if frame["type"] != "heartbeat":
            return frame


async def events_from(socket: ClientConnection, count: int, seconds: float = 10) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    while len(events) < count:
        frame = await frame_from(socket, seconds)
        assert frame["type"] == "events", frame
        events += frame["events"]
    return events


async def drained(socket: ClientConnection) -> None:
    """Read until the socket is closed."""
    with suppress(ConnectionClosed):
        while True:
            await socket.recv()


async def close_code_of(platform: Platform, flow_id: object, token: str | None = None, **headers: str) -> int | None:
    async with watching(platform, flow_id, token, **headers) as socket:
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(socket.recv(), 10)
        assert closed.value.rcvd is not None
        return closed.value.rcvd.code


def offset_of(flow_id: object) -> int:
    return Stream.objects.get(pk=flow_id).offset


def settle(execution: FlowExecution) -> int:
    """Wait until everything published so far has an offset, and return the highest."""
    wait_until(lambda: not Event.objects.filter(flow_id=execution.flow_id, offset=None).exists())
    return offset_of(execution.flow_id)


def test_a_reported_batch_arrives_as_the_event_that_rest_shows(
    platform: Platform, token: str, execution: FlowExecution
) -> None:
    offset = settle(execution)
    stream = Stream.objects.get(pk=execution.flow_id)

    async def story() -> None:
        async with watching(platform, execution.flow_id, token) as socket:
            hello = await frame_from(socket)
            assert hello == {
                "type": "hello",
                "flow_id": str(execution.flow_id),
                "epoch": str(stream.epoch),
                "offset": offset,
            }
            answer = await asyncio.to_thread(report, platform, token, execution, ("task-0", "running"))
            (event,) = await events_from(socket, 1, seconds=2)
            assert event["offset"] == offset + 1
            assert event["type"] == "task_status.added"
            assert event["flow_execution_id"] == str(execution.pk)
            assert event["data"] == {"statuses": answer}

    asyncio.run(story())


def test_every_event_comes_once_and_offsets_are_consecutive(
    platform: Platform, token: str, execution: FlowExecution
) -> None:
    offset = settle(execution)

    async def story() -> None:
        async with watching(platform, execution.flow_id, token) as socket:
            await frame_from(socket)
            writers = [
                asyncio.to_thread(report, platform, token, execution, (f"task-{index % 20}", f"step {index}"))
                for index in range(60)
            ]
            await asyncio.gather(*writers)
            events = await events_from(socket, 60)
            assert [event["offset"] for event in events] == list(range(offset + 1, offset + 61))
            seen = {status["status"] for event in events for status in event["data"]["statuses"]}
            assert seen == {f"step {index}" for index in range(60)}

    asyncio.run(story())


def test_a_client_that_comes_back_gets_what_it_missed(platform: Platform, token: str, execution: FlowExecution) -> None:
    offset = settle(execution)
    for index in range(5):
        report(platform, token, execution, ("task-0", f"missed {index}"))
    settle(execution)
    stream = Stream.objects.get(pk=execution.flow_id)

    async def story() -> None:
        async with watching(platform, execution.flow_id, token, f"?since={offset}&epoch={stream.epoch}") as socket:
            assert (await frame_from(socket))["type"] == "hello"
            events = await events_from(socket, 5)
            await asyncio.to_thread(report, platform, token, execution, ("task-0", "live"))
            events += await events_from(socket, 1)
            assert [event["offset"] for event in events] == list(range(offset + 1, offset + 7))

    asyncio.run(story())


def test_a_past_of_another_epoch_a_pruned_past_and_the_future_ask_for_a_reset(
    platform: Platform, token: str, execution: FlowExecution
) -> None:
    for index in range(3):
        report(platform, token, execution, ("task-0", f"old {index}"))
    offset = settle(execution)
    Event.objects.filter(flow_id=execution.flow_id).update(created_at=timezone.now() - timedelta(days=30))
    assert prune(before=timezone.now() - timedelta(days=29)) >= 4
    report(platform, token, execution, ("task-0", "new"))
    assert settle(execution) == offset + 1

    async def story(query: str) -> None:
        async with watching(platform, execution.flow_id, token, query) as socket:
            assert (await frame_from(socket))["type"] == "hello"
            reset = await frame_from(socket)
            assert (reset["type"], reset["offset"]) == ("reset", offset + 1)

    for query in ("?since=1", f"?since={offset}&epoch={uuid4()}", f"?since={offset + 50}", "?since=nonsense"):
        asyncio.run(story(query))

    async def kept() -> None:
        async with watching(platform, execution.flow_id, token, f"?since={offset}") as socket:
            await frame_from(socket)
            (event,) = await events_from(socket, 1)
            assert event["offset"] == offset + 1

    asyncio.run(kept())


def test_a_socket_that_was_idle_for_12_seconds_still_receives(
    platform: Platform, token: str, execution: FlowExecution
) -> None:
    settle(execution)

    async def story() -> None:
        async with watching(platform, execution.flow_id, token) as socket:
            hello = await frame_from(socket)
            heartbeat = json.loads(await asyncio.wait_for(socket.recv(), 15))
            assert heartbeat == {"type": "heartbeat", "offset": hello["offset"]}
            await asyncio.sleep(12)
            await asyncio.to_thread(report, platform, token, execution, ("task-0", "at last"))
            assert len(await events_from(socket, 1, seconds=2)) == 1

    asyncio.run(story())


def test_without_a_valid_credential_a_socket_is_closed_with_4401(
    platform: Platform, organization: Organization, execution: FlowExecution
) -> None:
    blind = make_token(organization, ["status:write"])
    for token, headers in (
        (None, {}),
        ("nonsense", {}),
        (blind, {}),
        (None, {"Cookie": f"{settings.SESSION_COOKIE_NAME}=nonsense"}),
        (None, {"Cookie": f'{settings.SESSION_COOKIE_NAME}="\\000aaaaaaaaaaaaaaa"'}),
    ):
        assert asyncio.run(close_code_of(platform, execution.flow_id, token, **headers)) == 4401


def test_an_unknown_and_a_foreign_flow_are_closed_with_4404(platform: Platform, execution: FlowExecution) -> None:
    stranger = make_token(make_organization(f"strangers-{uuid4().hex}"))
    for flow_id in (execution.flow_id, uuid4(), "nonsense"):
        assert asyncio.run(close_code_of(platform, flow_id, stranger)) == 4404


def session_cookie(organization: Organization, role: str = "viewer") -> str:
    client = Client()
    client.force_login(make_member(organization, role, username=f"user-{uuid4().hex}"))
    return f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}"


def test_a_viewer_watches_with_the_session_cookie(
    platform: Platform, organization: Organization, token: str, execution: FlowExecution
) -> None:
    settle(execution)
    cookie = session_cookie(organization)

    async def story() -> None:
        async with watching(platform, execution.flow_id, Cookie=cookie, Origin=platform.url) as socket:
            assert (await frame_from(socket))["type"] == "hello"
            await asyncio.to_thread(report, platform, token, execution, ("task-0", "seen"))
            assert len(await events_from(socket, 1)) == 1

    asyncio.run(story())


def test_a_page_of_another_site_cannot_use_the_cookie(
    platform: Platform, organization: Organization, execution: FlowExecution
) -> None:
    cookie = session_cookie(organization, "admin")
    code = close_code_of(platform, execution.flow_id, Cookie=cookie, Origin="https://evil.example")
    assert asyncio.run(code) == 4401


def test_frames_of_a_client_are_ignored_and_large_ones_end_the_socket(
    platform: Platform, token: str, execution: FlowExecution
) -> None:
    settle(execution)

    async def story() -> None:
        async with watching(platform, execution.flow_id, token) as socket:
            await frame_from(socket)
            for text in ('{"type": "flow.frame"}', "nonsense", '{"type": "websocket.close"}'):
                await socket.send(text)
            await asyncio.to_thread(report, platform, token, execution, ("task-0", "fine"))
            assert len(await events_from(socket, 1)) == 1
            await socket.send("x" * 100_000)
            with pytest.raises(ConnectionClosed):
                await frame_from(socket)

    asyncio.run(story())


def test_one_socket_too_many_is_closed_with_4429(
    platform: Platform, organization: Organization, execution: FlowExecution
) -> None:
    greedy = make_token(organization)

    async def story() -> None:
        sockets = []
        try:
            for _ in range(settings.SOCKETS_PER_ACTOR):
                manager = watching(platform, execution.flow_id, greedy)
                sockets.append(manager)
                assert (await frame_from(await manager.__aenter__()))["type"] == "hello"
            assert await close_code_of(platform, execution.flow_id, greedy) == 4429
        finally:
            for manager in sockets:
                await manager.__aexit__(None, None, None)
        async with watching(platform, execution.flow_id, greedy) as socket:
            assert (await frame_from(socket))["type"] == "hello"

    asyncio.run(story())


def test_the_sockets_of_a_namesake_in_another_organization_count_for_it_alone(
    platform: Platform, organization: Organization, execution: FlowExecution
) -> None:
    other = make_organization(f"namesake-{uuid4().hex}")
    theirs = make_execution(make_flow(other))
    tokens = [issue_service_token(organization=one, name="same", scopes=["read"]) for one in (organization, other)]

    async def story() -> None:
        async with AsyncExitStack() as stack:
            for _ in range(settings.SOCKETS_PER_ACTOR):
                socket = await stack.enter_async_context(watching(platform, execution.flow_id, tokens[0]))
                assert (await frame_from(socket))["type"] == "hello"
            socket = await stack.enter_async_context(watching(platform, theirs.flow_id, tokens[1]))
            assert (await frame_from(socket))["type"] == "hello"

    asyncio.run(story())


def test_a_stream_that_was_set_back_or_begun_anew_is_a_reset(
    platform: Platform, token: str, execution: FlowExecution
) -> None:
    for index in range(3):
        report(platform, token, execution, ("task-0", f"{index}"))
    offset = settle(execution)

    async def story() -> None:
        async with watching(platform, execution.flow_id, token) as socket:
            assert (await frame_from(socket))["offset"] == offset
            await asyncio.to_thread(set_back, execution.flow_id, offset - 2)
            reset = await frame_from(socket, 15)
            assert (reset["type"], reset["offset"]) == ("reset", offset - 2)
            await asyncio.to_thread(report, platform, token, execution, ("task-0", "after"))
            (event,) = await events_from(socket, 1)
            assert event["offset"] == offset - 1

    asyncio.run(story())


def set_back(flow_id: object, offset: int) -> None:
    """Do to a stream what a restored backup does."""
    Event.objects.filter(flow_id=flow_id, offset__gt=offset).delete()
    Stream.objects.filter(pk=flow_id).update(offset=offset, epoch=uuid4())
    connection.close()


def test_a_client_that_does_not_read_is_closed_with_4408_and_others_are_not_held_up(
    platform: Platform, token: str, execution: FlowExecution
) -> None:
    offset = settle(execution)
    batch = [(f"task-{index % 20}", "x" * 50) for index in range(100)]
    stopped = asyncio.Event()

    async def write() -> None:
        while not stopped.is_set():
            await asyncio.to_thread(report, platform, token, execution, *batch)

    async def story() -> None:
        async with (
            watching(platform, execution.flow_id, token) as reader,
            watching(platform, execution.flow_id, token) as lazy,
        ):
            await frame_from(reader)
            lazy.transport.pause_reading()
            writers = [asyncio.create_task(write()) for _ in range(3)]
            events = await events_from(reader, 600)  # 13 MB, more than the buffers between us hold
            assert [event["offset"] for event in events] == list(range(offset + 1, offset + len(events) + 1))
            stopped.set()
            await asyncio.gather(*writers)
            lazy.transport.resume_reading()
            await asyncio.wait_for(drained(lazy), 20)
            assert lazy.close_code == 4408

    asyncio.run(story())


def test_a_client_that_stands_still_for_a_moment_misses_nothing(
    platform: Platform, token: str, execution: FlowExecution
) -> None:
    offset = settle(execution)
    batch = [(f"task-{index % 20}", "x" * 50) for index in range(100)]
    missed, live = 180, 20  # 5 MB: more than the kernel takes, not so much that the rest fills the inbox

    async def write(batches: int) -> None:
        for _ in range(batches):
            await asyncio.to_thread(report, platform, token, execution, *batch)

    async def story() -> None:
        small = socket_with_a_small_window(platform.port)
        url, headers = f"{platform.ws_url}/ws/flows/{execution.flow_id}", {"Authorization": f"Bearer {token}"}
        async with connect(url, additional_headers=headers, proxy=None, sock=small, max_size=None) as socket:
            await frame_from(socket)
            socket.transport.pause_reading()
            await write(missed)
            socket.transport.resume_reading()
            await write(live)
            events = await events_from(socket, missed + live)
            assert [event["offset"] for event in events] == list(range(offset + 1, offset + missed + live + 1))

    asyncio.run(story())


def socket_with_a_small_window(port: int) -> socket.socket:
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.connect(("127.0.0.1", port))
    return small


def test_a_live_process_may_open_more_files_than_a_shell_allows() -> None:
    program = (
        "import resource as r; _, most = r.getrlimit(r.RLIMIT_NOFILE); r.setrlimit(r.RLIMIT_NOFILE, (256, most));"
        "from flowplatform import live; live._allow_open_files(); print(*r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)
    soft, hard = map(int, done.stdout.split())
    assert soft == (8_192 if hard < 0 else min(8_192, hard))  # below zero: there is no limit


def test_a_restarted_live_process_says_1012_and_the_client_loses_nothing(
    platform: Platform, token: str, execution: FlowExecution
) -> None:
    offset = settle(execution)

    async def story() -> None:
        async with watching(platform, execution.flow_id, token) as socket:
            await frame_from(socket)
            await asyncio.to_thread(platform.stop, "live", with_signal=signal.SIGTERM)
            with pytest.raises(ConnectionClosed) as closed:
                await frame_from(socket)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        await asyncio.to_thread(platform.start, "live")
        report_ = asyncio.to_thread(report, platform, token, execution, ("task-0", "after"))
        await report_
        async with watching(platform, execution.flow_id, token, f"?since={offset}") as socket:
            await frame_from(socket)
            (event,) = await events_from(socket, 1)
            assert event["offset"] == offset + 1

    asyncio.run(story())


def test_the_events_over_http_equal_those_of_the_socket(
    platform: Platform, token: str, execution: FlowExecution
) -> None:
    headers = {"Authorization": f"Bearer {token}"}
    report(platform, token, execution, ("task-0", "running"), ("task-1", "running"))
    settle(execution)
    url = f"{platform.url}/api/flows/{execution.flow_id}/events"
    page = httpx.get(url, params={"limit": 1}, headers=headers).json()
    rest = httpx.get(url, params={"since": 1, "epoch": page["epoch"]}, headers=headers).json()
    over_http = page["events"] + rest["events"]
    assert [event["type"] for event in over_http] == ["flow_execution.created", "task_status.added"]
    assert (page["reset"], page["offset"], rest["offset"]) == (False, 2, 2)

    async def story() -> None:
        async with watching(platform, execution.flow_id, token, "?since=0") as socket:
            await frame_from(socket)
            assert await events_from(socket, 2) == over_http

    asyncio.run(story())
    lost = httpx.get(url, params={"since": 1, "epoch": str(uuid4())}, headers=headers).json()
    assert (lost["reset"], lost["events"], lost["offset"]) == (True, [], 2)
    foreign = {"Authorization": f"Bearer {make_token(make_organization(f'other-{uuid4().hex}'))}"}
    assert httpx.get(url, headers=foreign).status_code == 404
