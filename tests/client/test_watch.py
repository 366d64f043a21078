"""Watching a flow with both clients: every event once and in order, over every loss of the connection, or a reset."""

import asyncio
import json
import queue
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from socket import SHUT_RDWR
from typing import Any
from uuid import uuid4

import pytest
from flowplatform_client import (
    ApiError,
    AsyncFlowPlatform,
    ConnectionFailedError,
    Event,
    FlowPlatform,
    ForbiddenError,
    NotFoundError,
    Reset,
    UnauthenticatedError,
    following,
)
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from executions.models import Flow
from tests.builders import definition, make_execution, make_organization, make_token
from tests.client.conftest import Asker
from tests.conftest import Platform
from tests.faults.proxy import Proxy
from tests.stack import free_port, wait_until

Item = Event | Reset


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "FIRST_PAUSE_SECONDS", 0.01)


class Watcher:
    """Watches in a thread of its own, with either client, and keeps what it is told."""

    def __init__(self, kind: str, url: str, token: str, flow_id: object, **options: Any) -> None:
        self.items: list[Item] = []
        self.error: Exception | None = None
        self.waits: list[str] = []
        self._kind = kind
        self._client = {"sync": FlowPlatform, "async": AsyncFlowPlatform}[kind](url, token, on_wait=self.waits.append)
        self._watch = self._client.watch(flow_id, **options)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def events(self) -> list[Event]:
        return [item for item in self.items if isinstance(item, Event)]

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    def wait_for(self, count: int, *, seconds: float = 15) -> Sequence[Item]:
        wait_until(lambda: len(self.items) >= count or self.has_ended, seconds=seconds, what=f"item {count}")
        assert self.error is None, self.error
        return self.items

    def ends(self) -> Exception | None:
        """Wait until it ends by itself, and return with what."""
        self._thread.join(15)
        assert self.has_ended
        return self.error

    def close(self) -> None:
        """End it from outside, and wait until the iteration is over."""
        if self._kind == "sync":
            self._watch.close()
        elif self._loop:
            asyncio.run_coroutine_threadsafe(self._watch.close(), self._loop)
        self._thread.join(15)
        assert self.has_ended

    def _run(self) -> None:
        try:
            if self._kind == "sync":
                with self._watch as items:
                    for item in items:
                        self.items.append(item)
            else:
                asyncio.run(self._follow())
        except Exception as error:
            self.error = error

    async def _follow(self) -> None:
        self._loop = asyncio.get_running_loop()
        async with self._watch as items:
            async for item in items:
                self.items.append(item)


@pytest.fixture
def flow_id(ask: Asker) -> str:
    return str(ask(lambda platform: platform.flows.create("Invoices", definition("extract", "classify"))).id)


@pytest.fixture
def execution_id(ask: Asker, flow_id: str) -> str:
    made = str(ask(lambda platform: platform.executions.create(flow_id)).id)
    wait_until(lambda: ask(lambda platform: platform.events.read(flow_id)).offset == 1, what="the first event")
    return made


def report(ask: Asker, execution_id: str, *statuses: str) -> None:
    for status in statuses:
        ask(lambda platform, status=status: platform.statuses.add(execution_id, [("extract", status)]))


def statuses_of(items: Sequence[Item]) -> list[str]:
    return [row["status"] for item in items if isinstance(item, Event) for row in item.data.get("statuses", [])]


def test_events_come_as_they_happen_after_a_reset_that_says_where_they_begin(
    platform: Platform, ask: Asker, kind: str, flow_id: str, execution_id: str
) -> None:
    watcher = Watcher(kind, platform.url, ask.platform.address.token, flow_id)
    begin = watcher.wait_for(1)[0]
    report(ask, execution_id, "queued", "running", "completed")
    watcher.wait_for(4)
    assert isinstance(begin, Reset)
    assert watcher.items[1:] == ask(lambda mine: mine.events.list(flow_id, since=begin.offset, epoch=begin.epoch))
    assert statuses_of(watcher.items) == ["queued", "running", "completed"]
    watcher.close()
    assert watcher.error is None


def test_what_was_missed_is_told_after_the_last_event_that_is_known(
    platform: Platform, ask: Asker, kind: str, flow_id: str, execution_id: str
) -> None:
    report(ask, execution_id, "queued", "running", "completed")
    token = ask.platform.address.token
    everything = Watcher(kind, platform.url, token, flow_id, since=0)
    known = everything.wait_for(4)[1]
    later = Watcher(kind, platform.url, token, flow_id, since=known.offset, epoch=known.epoch)
    assert later.wait_for(2)[0] == everything.items[2]
    assert [item.offset for item in everything.items] == [1, 2, 3, 4]
    everything.close()
    later.close()


def test_a_past_that_is_gone_is_a_reset_and_the_rest_follows(
    platform: Platform, ask: Asker, kind: str, flow_id: str, execution_id: str
) -> None:
    watcher = Watcher(kind, platform.url, ask.platform.address.token, flow_id, since=1, epoch=str(uuid4()))
    (reset,) = watcher.wait_for(1)
    report(ask, execution_id, "queued")
    watcher.wait_for(2)
    assert (type(reset), reset.offset) == (Reset, 1)
    assert (watcher.items[1].offset, watcher.items[1].epoch) == (2, reset.epoch)
    watcher.close()


def test_no_event_is_skipped_or_told_twice_while_the_server_is_killed_and_started_again(
    platform: Platform, client: FlowPlatform
) -> None:
    flow_id = client.flows.create("Invoices", definition("extract")).id
    execution_id = client.executions.create(flow_id).id
    token = client.address.token
    watchers = [Watcher(kind, platform.url, token, flow_id, since=0) for kind in ("sync", "async")]
    client.statuses.add(execution_id, [("extract", "before")])
    for watcher in watchers:
        watcher.wait_for(2)
    platform.stop("live", with_signal=signal.SIGKILL)
    make_execution(Flow.objects.get(pk=flow_id))  # an event that no live process tells
    platform.start("live")
    for number in range(20):
        client.statuses.add(execution_id, [("extract", f"after {number}")])
    for watcher in watchers:
        watcher.wait_for(23, seconds=30)
        assert [item.offset for item in watcher.items] == [*range(1, 24)]
        assert statuses_of(watcher.items) == ["before", *(f"after {number}" for number in range(20))]
        assert len(watcher.waits) == 1
        assert watcher.waits[0].startswith(f"connecting to {platform.ws_url}/ws/flows/{flow_id} again: ")
        watcher.close()


def test_connections_that_are_cut_again_and_again_cost_no_event(
    platform: Platform, ask: Asker, kind: str, flow_id: str, execution_id: str
) -> None:
    port = free_port()
    proxy = Proxy({"live": (port, platform.port)})
    try:
        watcher = Watcher(kind, f"http://127.0.0.1:{port}", ask.platform.address.token, flow_id, since=1)
        count = 0
        for cut in range(8):
            report(ask, execution_id, *(f"{cut}.{number}" for number in range(5)))
            proxy.turn("live", "halve" if cut % 2 else "cut")
            report(ask, execution_id, f"{cut}.5")
            count += 6
            proxy.turn("live", "pass")
        watcher.wait_for(count)
        assert [item.offset for item in watcher.items] == [*range(2, 2 + count)]
        assert statuses_of(watcher.items) == [f"{cut}.{number}" for cut in range(8) for number in range(6)]
        watcher.close()
    finally:
        proxy.stop()


@pytest.mark.parametrize("scopes", [None, ["status:write"]])
def test_a_token_that_may_not_watch_ends_the_watch(
    platform: Platform, ask: Asker, kind: str, flow_id: str, scopes: list[str] | None
) -> None:
    token = "no.token" if scopes is None else make_token(make_organization(), scopes)
    error = Watcher(kind, platform.url, token, flow_id).ends()
    assert isinstance(error, UnauthenticatedError | ForbiddenError)
    assert error.code == "unauthenticated"


def test_a_stranger_cannot_tell_a_flow_from_one_that_is_not_there(
    platform: Platform, ask: Asker, kind: str, flow_id: str
) -> None:
    stranger = make_token(make_organization())
    errors = [Watcher(kind, platform.url, stranger, watched).ends() for watched in (flow_id, uuid4())]
    assert [type(error) for error in errors] == [NotFoundError, NotFoundError]
    assert {error.code for error in errors if isinstance(error, ApiError)} == {"not_found"}


@pytest.mark.parametrize("is_away", [False, True])
def test_closing_ends_the_watch_at_once_wherever_it_is(
    platform: Platform, ask: Asker, kind: str, flow_id: str, monkeypatch: pytest.MonkeyPatch, is_away: bool
) -> None:
    """It waits for an event that does not come, or for the next attempt to connect."""
    monkeypatch.setattr(following, "FIRST_PAUSE_SECONDS", 600)
    monkeypatch.setattr(following, "LONGEST_PAUSE_SECONDS", 600)
    url = f"http://127.0.0.1:{free_port()}" if is_away else platform.url
    watcher = Watcher(kind, url, ask.platform.address.token, flow_id)
    wait_until(lambda: watcher.waits if is_away else watcher.items, what="watching")
    begun = time.monotonic()
    watcher.close()
    assert time.monotonic() - begun < 2
    assert watcher.error is None


def test_a_server_that_stays_away_is_given_up_when_patience_is_over(kind: str) -> None:
    watcher = Watcher(kind, f"http://127.0.0.1:{free_port()}", "a.token", uuid4(), patience_seconds=0.2)
    error = watcher.ends()
    assert isinstance(error, ConnectionFailedError)
    assert "could not be watched for " in str(error)


def test_an_address_without_sockets_is_told_instead_of_tried_for_ever(platform: Platform, kind: str) -> None:
    error = Watcher(kind, f"{platform.url}/elsewhere", "a.token", uuid4()).ends()
    assert isinstance(error, ApiError)


# --- What the real server says too seldom: another one says it ------------------------------------------------------


class ScriptedSockets:
    """Serves each connection by the next script: frames to send, and a close code in the end or `None` for silence."""

    def __init__(self, *scripts: Sequence[object]) -> None:
        self.asked: queue.Queue[str] = queue.Queue()
        self._scripts = [*scripts]
        self._server: Server = serve(self._play, "127.0.0.1", 0)
        self._over = threading.Event()
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.socket.getsockname()[1]}"

    def stop(self) -> None:
        self._over.set()
        self._server.shutdown()

    def _play(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        self.asked.put(connection.request.path.partition("?")[2])
        with suppress(ConnectionClosed):
            for step in self._scripts.pop(0) if self._scripts else [None]:
                if step == 1006:
                    connection.socket.shutdown(SHUT_RDWR)
                elif isinstance(step, int):
                    connection.close(step)
                elif step is None:
                    self._over.wait(20)
                else:
                    connection.send(json.dumps(step))


def hello(offset: int, epoch: str = "e") -> dict[str, Any]:
    return {"type": "hello", "flow_id": "f", "epoch": epoch, "offset": offset}


def events(*offsets: int) -> dict[str, Any]:
    rows = [
        {"offset": offset, "type": "task_status.added", "flow_execution_id": None, "created_at": "2026-11-22T10:00:00Z"}
        for offset in offsets
    ]
    return {"type": "events", "events": [{**row, "data": {}} for row in rows]}


def heartbeat(offset: int) -> dict[str, Any]:
    return {"type": "heartbeat", "offset": offset}


def reset(offset: int, epoch: str) -> dict[str, Any]:
    return {"type": "reset", "epoch": epoch, "offset": offset}


def told_by(kind: str, count: int, *scripts: Sequence[object], **options: Any) -> tuple[list[object], list[str]]:
    """Return the first items as offsets (of events) or (epoch, offset) (of resets), and how each connection asked."""
    sockets = ScriptedSockets(*scripts)
    try:
        watcher = Watcher(kind, sockets.url, "a.token", "f", **options)
        watcher.wait_for(count)
        watcher.close()
        asked = [sockets.asked.get_nowait() for _ in range(sockets.asked.qsize())]
    finally:
        sockets.stop()
    return [item.offset if isinstance(item, Event) else (item.epoch, item.offset) for item in watcher.items], asked


@pytest.mark.parametrize("code", [4408, 4429, 1012, 1006])
def test_after_these_codes_it_comes_back_where_it_was(kind: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "LONGEST_PAUSE_SECONDS", 0.2)
    # 1006 stands for a connection that ends without a word.
    told, asked = told_by(kind, 4, [hello(5), events(6, 7), code], [hello(8), events(8), None])
    assert told == [("e", 5), 6, 7, 8]
    assert asked == ["", "since=7&epoch=e"]


@pytest.mark.parametrize("ahead", [events(8), heartbeat(7), events(7, 9), {"type": "events"}, "nonsense"], ids=str)
def test_a_jump_or_a_frame_that_makes_no_sense_is_asked_for_again(kind: str, ahead: object) -> None:
    told, asked = told_by(kind, 3, [hello(5), events(6), ahead, None], [hello(9), events(7, 8, 9), None])
    assert told[:3] == [("e", 5), 6, 7]
    assert asked == ["", "since=6&epoch=e"]


def test_what_was_told_already_is_dropped(kind: str) -> None:
    told, _ = told_by(kind, 4, [hello(5), events(4, 5, 6), events(5, 6), events(6, 7), heartbeat(7), events(8), None])
    assert told == [("e", 5), 6, 7, 8]


def test_a_reset_names_the_new_epoch_and_it_goes_on_from_there(kind: str) -> None:
    scripts = [hello(5), events(6), reset(2, "new"), events(3), 1012], [hello(4, "new"), events(4), None]
    told, asked = told_by(kind, 4, *scripts, since=5, epoch="e")
    assert told == [6, ("new", 2), 3, 4]
    assert asked == ["since=5&epoch=e", "since=3&epoch=new"]


def test_frames_of_a_later_version_are_passed_over(kind: str) -> None:
    told, _ = told_by(kind, 2, [hello(5), {"type": "news"}, events(6), None])
    assert told == [("e", 5), 6]


def test_a_connection_that_says_nothing_is_given_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowplatform_client.watching.SILENCE_SECONDS", 0.2)
    told, asked = told_by(kind, 2, [hello(5), None], [hello(6), events(6), None])
    assert told == [("e", 5), 6]
    assert asked[:2] == ["", "since=5&epoch=e"]


def test_a_pause_is_jittered_longer_after_each_failure_and_short_again_after_a_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ceilings: list[float] = []
    monkeypatch.setattr(following, "FIRST_PAUSE_SECONDS", 0.5)
    monkeypatch.setattr("random.uniform", lambda low, high: ceilings.append(high) or low)
    place = following.Following("ws://x", 5, "e", patience_seconds=float("inf"), on_wait=lambda reason: None)
    for _ in range(7):
        place.lost("away")
    place.take(json.dumps(heartbeat(5)))
    place.closed(1012, "restart")
    place.closed(4429, "crowded")
    assert ceilings == [0.5, 1, 2, 4, 8, 10, 10, 0.5, 10]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield

    def is_left(thread: threading.Thread) -> bool:
        return "recv_events" in thread.name and thread not in before  # tests of other modules have sockets, too

    wait_until(lambda: not any(map(is_left, threading.enumerate())), what="the last thread")
