"""The feeds of a live process: one subscription and one reading per flow, however many sockets watch it.

A `Hub` belongs to one event loop. Everything that moves a feed's offset happens between two awaits, so a socket that
joins sees exactly the frames after the offset it was told. Frames come from the channel layer while that works; the
hub's own look at the database, every few seconds, brings what the layer lost.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from channels.layers import get_channel_layer
from django.conf import settings
from django.db import close_old_connections

from flowplatform.encoding import encode
from notifications.layer import group_of
from notifications.relay import Frame, frames
from notifications.replay import Position, number_stuck, positions, replay

logger = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

INBOX_CHARACTERS = 4 * 1024 * 1024  # a socket that lags by more is too slow; the texts are shared by all sockets
CATCH_UP_EVENTS = 500  # read at once
POLL_SECONDS = 4.0
HEARTBEAT_SECONDS = 10.0
PATIENCE_SECONDS = 3.0  # for slow sockets while a feed catches up
SUBSCRIBE_SECONDS = 1.0  # a socket does not wait longer for the channel layer


class Subscription:
    """The bounded inbox of one socket."""

    def __init__(self, overflowed: Callable[[], None], send_now: Callable[[str], bool]) -> None:
        self._inbox: deque[str] = deque()
        self._waiting = 0
        self._news: asyncio.Future[None] | None = None  # while the socket's task waits for it
        self._overflowed = overflowed
        self._send_now = send_now

    def put(self, text: str) -> None:
        """Send a frame, or add it to what waits; a full inbox is reported instead: the socket is too slow."""
        if self._news is not None and not self._news.done():  # the socket's task has sent all before, and sleeps
            if self._send_now(text):
                return
            self._news.set_result(None)
        if self._waiting > INBOX_CHARACTERS:
            self._overflowed()
            return
        self._waiting += len(text)
        self._inbox.append(text)

    async def get(self) -> str:
        """Return the next frame. One task may wait; an asyncio.Queue, which is for many, costs twice as much."""
        while not self._inbox:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        text = self._inbox.popleft()
        self._waiting -= len(text)
        return text

    @property
    def is_filling(self) -> bool:
        """Say whether more than half of what fits is waiting."""
        return self._waiting > INBOX_CHARACTERS // 2

    def clear(self) -> None:
        """Forget what came so far: the socket begins at the feed's offset of this moment."""
        self._inbox.clear()
        self._waiting = 0


class FlowFeed:
    """One flow in this process: where its stream stands, and the sockets that watch it."""

    def __init__(self, flow_id: UUID) -> None:
        self.flow_id = flow_id
        self.epoch = ""
        self.offset = -1
        self.users = 0
        self.subscribed = False
        self.subscriptions: set[Subscription] = set()
        self.opening: asyncio.Task[None] | None = None
        self.catching_up: asyncio.Task[None] | None = None
        self._early: list[Frame] = []

    def open_at(self, position: Position) -> bool:
        """Begin at a position read after subscribing; say whether frames that came meanwhile fit on."""
        self.epoch, self.offset = position.epoch, position.offset
        fits = True
        while self._early:
            fits = self.apply(self._early.pop(0)) and fits
        return fits

    def apply(self, frame: Frame) -> bool:
        """Pass a frame on if it is the next one, drop it if it is old; `False` means that events are missing."""
        if self.offset < 0:
            self._early.append(frame)
            return True
        if frame.last <= self.offset:
            return True
        if frame.first != self.offset + 1:
            return False
        self.offset = frame.last
        self.broadcast(frame.text)
        return True

    def reset(self, position: Position) -> None:
        """Begin anew at a position: what the sockets know is worth nothing."""
        self.epoch, self.offset = position.epoch, position.offset
        self.broadcast(self.reset_text())

    def broadcast(self, text: str) -> None:
        """Put one text, encoded once, into every inbox."""
        for subscription in list(self.subscriptions):
            subscription.put(text)

    def hello_text(self) -> str:
        """Return the first frame of a socket."""
        return _text(type="hello", flow_id=self.flow_id, epoch=self.epoch, offset=self.offset)

    def reset_text(self) -> str:
        """Return the frame that asks a client to refetch."""
        return _text(type="reset", epoch=self.epoch, offset=self.offset)

    def heartbeat_text(self) -> str:
        """Return the frame that tells a client where the stream stands."""
        return _text(type="heartbeat", offset=self.offset)


def _text(**fields: Any) -> str:
    return encode(fields).decode()


class Hub:
    """All feeds of one event loop."""

    def __init__(self) -> None:
        self._feeds: dict[UUID, FlowFeed] = {}
        self._executor = ThreadPoolExecutor(settings.SOCKET_THREADS, "sockets")
        self._layer: Any = get_channel_layer()
        self._channel = ""
        self._has_channel = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def in_thread(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a database read in the hub's few threads, each of which keeps a connection."""
        return await asyncio.get_running_loop().run_in_executor(
            self._executor, partial(_with_connection, function, *args, **kwargs)
        )

    @asynccontextmanager
    async def watching(
        self, flow_id: UUID, overflowed: Callable[[], None], send_now: Callable[[str], bool]
    ) -> AsyncIterator[tuple[FlowFeed, Subscription]]:
        """Join the feed of a flow, made if this is its first socket, and leave it again.

        `overflowed` is told that the socket is too slow. `send_now` sends a text at once, or says that it cannot.
        """
        self._start()
        feed = self._feeds.setdefault(flow_id, FlowFeed(flow_id))
        feed.users += 1
        subscription = Subscription(overflowed, send_now)
        try:
            if feed.opening is None:
                feed.opening = asyncio.create_task(self._open(feed))
            await asyncio.shield(feed.opening)
            feed.subscriptions.add(subscription)
            yield feed, subscription
        finally:
            feed.subscriptions.discard(subscription)
            feed.users -= 1
            if not feed.users:
                self._close(feed)

    async def caught_up(self, feed: FlowFeed) -> None:
        """Read what the feed misses from the database; one reading at a time, shared by all who ask."""
        if feed.catching_up is None or feed.catching_up.done():
            feed.catching_up = asyncio.create_task(self._catch_up(feed))
        await asyncio.shield(feed.catching_up)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._tasks:
            loops = (self._listen, self._subscribe_again, self._poll, self._beat)
            self._tasks = [asyncio.create_task(_forever(loop)) for loop in loops]

    async def _open(self, feed: FlowFeed) -> None:
        """Subscribe first, read the position afterwards: nothing can fall between the two."""
        try:
            await self._subscribe(feed)
            position = (await self.in_thread(positions, [feed.flow_id]))[feed.flow_id]
        except BaseException:
            self._forget(feed)  # the next socket tries again
            raise
        if not feed.open_at(position):
            await self.caught_up(feed)
        if self._feeds.get(feed.flow_id) is not feed:  # its sockets left while it was opened
            await self._unsubscribe(feed)

    def _close(self, feed: FlowFeed) -> None:
        self._forget(feed)
        if feed.subscribed:
            self._tasks.append(asyncio.create_task(self._unsubscribe(feed)))
            self._tasks = [task for task in self._tasks if not task.done()]

    def _forget(self, feed: FlowFeed) -> None:
        if self._feeds.get(feed.flow_id) is feed:  # and not another one that came after it
            del self._feeds[feed.flow_id]

    async def _subscribe(self, feed: FlowFeed) -> None:
        """Join the group, or leave it to the next poll when the layer is away."""
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                await self._has_channel.wait()
                await self._layer.group_add(group_of(feed.flow_id), self._channel)
        except Exception as error:
            logger.warning("the channel layer is away, flow %s is read from the database: %r", feed.flow_id, error)
        else:
            feed.subscribed = True

    async def _unsubscribe(self, feed: FlowFeed) -> None:
        if feed.flow_id in self._feeds:  # somebody came back meanwhile
            return
        try:
            await self._layer.group_discard(group_of(feed.flow_id), self._channel)
        except Exception as error:
            logger.info("could not leave the group of flow %s: %r", feed.flow_id, error)

    async def _listen(self) -> None:
        """Take one message from the layer and pass it to its feed."""
        if not self._has_channel.is_set():
            self._channel = await self._layer.new_channel()
            self._has_channel.set()
        message = await self._layer.receive(self._channel)
        feed = self._feeds.get(UUID(message["flow"]))
        if feed and not feed.apply(Frame(message["first"], message["last"], message["text"])):
            self._tasks.append(asyncio.create_task(self._catch_up_quietly(feed)))
        await asyncio.sleep(0)  # a queue that is never empty never waits, and the sockets have to send

    async def _subscribe_again(self) -> None:
        """Join the groups that could not be joined before; the first failure says that the layer is still away."""
        await asyncio.sleep(POLL_SECONDS / 4)
        for feed in list(self._feeds.values()):
            if feed.offset >= 0 and not feed.subscribed:
                await self._subscribe(feed)
                if not feed.subscribed:
                    return

    async def _poll(self) -> None:
        """Ask the database where the streams stand, and read what the layer did not bring."""
        await asyncio.sleep(POLL_SECONDS)
        self._tasks = [task for task in self._tasks if not task.done()]
        feeds = {flow_id: feed for flow_id, feed in self._feeds.items() if feed.offset >= 0}
        if not feeds:
            return
        await self.in_thread(number_stuck, list(feeds))
        before = {flow_id: feed.offset for flow_id, feed in feeds.items()}
        found = await self.in_thread(positions, list(feeds))
        changed = [
            feeds[flow_id]
            for flow_id, position in found.items()
            if position.epoch != feeds[flow_id].epoch
            or position.offset > feeds[flow_id].offset
            or position.offset < before[flow_id]  # the database was set back
        ]
        await asyncio.gather(*(self._catch_up_quietly(feed) for feed in changed))

    async def _beat(self) -> None:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        for feed in list(self._feeds.values()):
            if feed.subscriptions:
                feed.broadcast(feed.heartbeat_text())

    async def _catch_up_quietly(self, feed: FlowFeed) -> None:
        try:
            await self.caught_up(feed)
        except Exception as error:
            logger.warning("flow %s could not be read, the next poll tries again: %r", feed.flow_id, error)

    async def _catch_up(self, feed: FlowFeed) -> None:
        while True:
            since = feed.offset
            position, rows = await self.in_thread(
                replay, feed.flow_id, since=since, epoch=feed.epoch, limit=CATCH_UP_EVENTS
            )
            if rows is None:
                # What is gone may have come by the layer during the read; everything else is a reset.
                if position.epoch != feed.epoch or position.offset < since or position.pruned > feed.offset:
                    feed.reset(position)
                return
            # The layer may move the feed during every wait: rows are taken only while they are still missing.
            for frame in frames(row for row in rows if row[0] > feed.offset):
                if not feed.apply(frame):  # a hole in the log: nothing brings it back
                    feed.reset(position)
                    return
                await self._let_sockets_send(feed)
            if len(rows) < CATCH_UP_EVENTS:
                return

    async def _let_sockets_send(self, feed: FlowFeed) -> None:
        """Wait until no inbox is half full, a few seconds at most: who reads is not to drown in what he missed."""
        await asyncio.sleep(0)
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while any(one.is_filling for one in feed.subscriptions) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)


def _with_connection(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    close_old_connections()  # and the next use looks at the one that is kept, as at the beginning of a request
    try:
        return function(*args, **kwargs)
    finally:
        close_old_connections()


async def _forever(step: Callable[[], Any]) -> None:
    """Repeat a step; a failure costs a pause that grows to ten seconds, not the loop."""
    pause = 1.0
    while True:
        try:
            await step()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.warning("%s failed and goes on in %d s: %r", step.__name__, pause, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 10.0)
        else:
            pause = 1.0
