"""The feeds of a live process: one subscription and one reading per flow or organization, however many sockets watch.

A `Hub` belongs to one event loop. Everything that moves a feed's position happens between two awaits, so a socket that
joins sees exactly the frames after the position it was told. News comes from the channel layer while that works; the
hub's own look at the database, every few seconds, brings what the layer lost.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar, cast
from uuid import UUID

from channels.layers import get_channel_layer
from django.conf import settings

from notifications.feed import Feed, Subscription
from notifications.flow_feed import FlowFeed
from notifications.guard import LOOK_SECONDS as GUARD_SECONDS
from notifications.guard import End, Guard
from notifications.layer import group_of, group_of_message
from notifications.organization_feed import OrganizationFeed
from notifications.threads import DatabaseThreads

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Feed)

LOOK_SECONDS = 4.0
HEARTBEAT_SECONDS = 10.0
SUBSCRIBE_SECONDS = 1.0  # a socket does not wait longer for the channel layer


class Hub:
    """All feeds of one event loop."""

    def __init__(self) -> None:
        self.threads = DatabaseThreads(settings.SOCKET_THREADS)
        self.guard = Guard()
        self._feeds: dict[str, Feed] = {}  # by group
        self._layer: Any = get_channel_layer()
        self._channel = ""
        self._has_channel = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    @asynccontextmanager
    async def watching(
        self, kind: type[F], subject_id: UUID, end: End, send_now: Callable[[str], bool]
    ) -> AsyncIterator[tuple[F, Subscription]]:
        """Join a feed, made if this is its first socket, and leave it again.

        `end` closes the socket with a code. `send_now` sends a text at once, or says that it cannot.
        """
        self._start()
        feed = cast(F, self._feeds.get(group_of(kind.kind, subject_id))) or self._made(kind(subject_id, self.threads))
        feed.users += 1
        subscription = Subscription(end, send_now)
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

    # --- inside -------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not self._tasks:
            steps: list[Callable[[], Any]] = [self._listen, self._subscribe_again, self._beat]
            steps += [partial(self._look, kind) for kind in (FlowFeed, OrganizationFeed)]  # neither holds up the other
            self._tasks = [asyncio.create_task(_forever(step)) for step in steps]
            self._tasks.append(asyncio.create_task(_forever(self.guard.look, longest_pause=GUARD_SECONDS)))

    def _made(self, feed: F) -> F:
        self._feeds[feed.group] = feed
        return feed

    async def _open(self, feed: Feed) -> None:
        """Subscribe first, read the position afterwards: nothing can fall between the two."""
        try:
            await self._subscribe(feed)
            await feed.begin()
        except BaseException:
            self._forget(feed)  # the next socket tries again
            raise
        if self._feeds.get(feed.group) is not feed:  # its sockets left while it was opened
            await self._unsubscribe(feed)

    def _close(self, feed: Feed) -> None:
        self._forget(feed)
        if feed.subscribed:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._tasks.append(asyncio.create_task(self._unsubscribe(feed)))

    def _forget(self, feed: Feed) -> None:
        if self._feeds.get(feed.group) is feed:  # and not another one that came after it
            del self._feeds[feed.group]

    async def _subscribe(self, feed: Feed) -> None:
        """Join the group, or leave it to a later attempt when the layer is away."""
        try:
            async with asyncio.timeout(SUBSCRIBE_SECONDS):
                await self._has_channel.wait()
                await self._layer.group_add(feed.group, self._channel)
        except Exception as error:
            logger.warning("the channel layer is away, %s is read from the database: %r", feed, error)
        else:
            feed.subscribed = True

    async def _unsubscribe(self, feed: Feed) -> None:
        if feed.group in self._feeds:  # somebody came back meanwhile
            return
        try:
            await self._layer.group_discard(feed.group, self._channel)
        except Exception as error:
            logger.info("could not leave the group of %s: %r", feed, error)

    async def _listen(self) -> None:
        """Take one message from the layer and pass it to its feed."""
        if not self._has_channel.is_set():
            self._channel = await self._layer.new_channel()
            self._has_channel.set()
        message = await self._layer.receive(self._channel)
        if feed := self._feeds.get(group_of_message(message)):
            feed.receive(message)
        await asyncio.sleep(0)  # a queue that is never empty never waits, and the sockets have to send

    async def _subscribe_again(self) -> None:
        """Join the groups that could not be joined before; the first failure says that the layer is still away."""
        await asyncio.sleep(LOOK_SECONDS / 4)
        for feed in list(self._feeds.values()):
            if feed.is_open and not feed.subscribed:
                await self._subscribe(feed)
                if not feed.subscribed:
                    return

    async def _look(self, kind: type[Feed]) -> None:
        """Ask the database what the layer did not bring to the feeds of one class."""
        await asyncio.sleep(LOOK_SECONDS)
        feeds = [feed for feed in self._feeds.values() if feed.is_open and isinstance(feed, kind)]
        if feeds:
            await kind.look(feeds, self.threads)

    async def _beat(self) -> None:
        await asyncio.sleep(HEARTBEAT_SECONDS)
        for feed in list(self._feeds.values()):
            if feed.subscriptions:
                feed.broadcast(feed.heartbeat_text())


async def _forever(step: Callable[[], Any], longest_pause: float = 10.0) -> None:
    """Repeat a step; a failure costs a pause that grows to `longest_pause` seconds, not the loop."""
    pause = 1.0
    while True:
        try:
            await step()
        except asyncio.CancelledError:
            raise
        except Exception as error:
            logger.warning("%s failed and goes on in %d s: %r", step, pause, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, longest_pause)
        else:
            pause = 1.0
