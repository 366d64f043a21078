"""The feed of a flow: every event in order, from the channel layer while it fits on, else from the database."""

import asyncio
import logging
from collections.abc import Sequence
from typing import Self
from uuid import UUID

from flowplatform import metrics
from notifications.close_codes import UNKNOWN
from notifications.feed import Feed, frame_text
from notifications.layer import Message
from notifications.relay import Frame, frames
from notifications.replay import Position, number_stuck, positions, replay
from notifications.threads import DatabaseThreads

logger = logging.getLogger(__name__)

CATCH_UP_EVENTS = 500  # read at once
PATIENCE_SECONDS = 3.0  # for slow sockets while a feed catches up


class FlowFeed(Feed):
    """One flow in this process: where its stream stands, and the sockets that watch it."""

    kind = "flow"

    def __init__(self, subject_id: UUID, threads: DatabaseThreads) -> None:
        super().__init__(subject_id, threads)
        self.epoch = ""
        self.offset = -1
        self._catching_up: asyncio.Task[None] | None = None
        self._early: list[Frame] = []

    async def begin(self) -> None:
        """Begin at the position of the stream; frames that came meanwhile are applied or read again."""
        position = (await self.threads.run(positions, [self.id]))[self.id]
        self.epoch, self.offset, self.is_open = position.epoch, position.offset, True
        fits = True
        while self._early:
            fits = self._apply(self._early.pop(0)) and fits
        if not fits:
            await self.caught_up()

    def receive(self, message: Message) -> None:
        """Pass a frame on if it is the next one; read what is missing if it is not."""
        frame = Frame(message["first"], message["last"], message["text"])
        if not self.is_open:
            self._early.append(frame)
        elif not self._apply(frame):
            self._catch_up_soon()

    @classmethod
    async def look(cls, feeds: Sequence[Self], threads: DatabaseThreads) -> None:
        """Compare the feeds with the streams, and read what the layer did not bring."""
        flows = {feed.id: feed for feed in feeds}
        await threads.run(number_stuck, list(flows))
        before = {flow_id: feed.offset for flow_id, feed in flows.items()}
        found = await threads.run(positions, list(flows))
        for flow_id in flows.keys() - found.keys():
            flows[flow_id].end(UNKNOWN)
        changed = [
            flows[flow_id]
            for flow_id, position in found.items()
            if position.epoch != flows[flow_id].epoch
            or position.offset > flows[flow_id].offset
            or position.offset < before[flow_id]  # the database was set back
        ]
        if changed:
            await asyncio.wait([feed._catch_up_soon() for feed in changed])

    async def caught_up(self) -> None:
        """Read what the feed misses from the database; raises what the reading raises."""
        await asyncio.shield(self._catch_up_soon())

    def hello_text(self) -> str:
        """Return the first frame of a socket."""
        return frame_text(type="hello", flow_id=self.id, epoch=self.epoch, offset=self.offset)

    def reset_text(self) -> str:
        """Return the frame that asks a client to refetch."""
        return frame_text(type="reset", epoch=self.epoch, offset=self.offset)

    def heartbeat_text(self) -> str:
        """Return the frame that tells a client where the stream stands."""
        return frame_text(type="heartbeat", offset=self.offset)

    # --- inside -------------------------------------------------------------------------------------------------------

    def _apply(self, frame: Frame) -> bool:
        """Pass a frame on if it is the next one, drop it if it is old; `False` means that events are missing."""
        if frame.last <= self.offset:
            return True
        if frame.first != self.offset + 1:
            return False
        self.offset = frame.last
        self.broadcast(frame.text)
        return True

    def _reset(self, position: Position) -> None:
        """Begin anew at a position: what the sockets know is worth nothing."""
        metrics.feed_resets.inc()
        self.epoch, self.offset = position.epoch, position.offset
        self.broadcast(self.reset_text())

    def _catch_up_soon(self) -> "asyncio.Task[None]":
        """Begin to read what is missing; one reading at a time, shared by all who ask."""
        if self._catching_up is None or self._catching_up.done():
            self._catching_up = asyncio.create_task(self._catch_up())
            self._catching_up.add_done_callback(self._log_failure)
        return self._catching_up

    def _log_failure(self, reading: "asyncio.Task[None]") -> None:
        if not reading.cancelled() and (error := reading.exception()):
            logger.warning("%s could not be read, the next look tries again: %r", self, error)

    async def _catch_up(self) -> None:
        metrics.feed_readings.inc()
        while True:
            since = self.offset
            position, rows = await self.threads.run(
                replay, self.id, since=since, epoch=self.epoch, limit=CATCH_UP_EVENTS
            )
            if rows is None:
                # What is gone may have come by the layer during the read; everything else is a reset.
                if position.epoch != self.epoch or position.offset < since or position.pruned > self.offset:
                    self._reset(position)
                return
            # The layer may move the feed during every wait: rows are taken only while they are still missing.
            for frame in frames(row for row in rows if row[0] > self.offset):
                if not self._apply(frame):  # a hole in the log: nothing brings it back
                    self._reset(position)
                    return
                await self._let_sockets_send()
            if len(rows) < CATCH_UP_EVENTS:
                return

    async def _let_sockets_send(self) -> None:
        """Wait until no inbox is half full, a few seconds at most: who reads is not to drown in what he missed."""
        await asyncio.sleep(0)
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while any(one.is_filling for one in self.subscriptions) and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.01)
