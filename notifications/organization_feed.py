"""The feed of an organization: which of its flows changed, a few times a second at most, and nothing else.

It tells of states, not of events: who is told asks for what he shows, so telling twice or out of order does no harm.
"""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Self
from uuid import UUID

from notifications.changes import horizon, look
from notifications.feed import Feed, frame_text
from notifications.layer import Message
from notifications.replay import number_stuck_in
from notifications.threads import DatabaseThreads

PAUSE_SECONDS = 0.4  # between two frames at least: what changes meanwhile travels together
FLOWS_PER_FRAME = 1_000  # 90 kB; more changes at once make more frames


class OrganizationFeed(Feed):
    """One organization in this process: what its sockets were told of, and what they will be told next."""

    kind = "organization"

    def __init__(self, subject_id: UUID, threads: DatabaseThreads) -> None:
        super().__init__(subject_id, threads)
        self.horizon = 0  # where the next look begins
        self._offsets: dict[UUID, int] = {}  # of flows that changed since the feed began
        self._changed: set[UUID] = set()  # not told yet
        self._next_frame = 0.0
        self._telling: asyncio.TimerHandle | None = None

    async def begin(self) -> None:
        """Begin with what changes from now on: a client fetches everything else after its hello."""
        self.horizon = await self.threads.run(horizon)
        self.is_open = True

    def receive(self, message: Message) -> None:
        """Take the flows of a relay's pass."""
        self._take({UUID(flow_id): offset for flow_id, offset in message["flows"].items()})

    @classmethod
    async def look(cls, feeds: Sequence[Self], threads: DatabaseThreads) -> None:
        """Take what changed since the last look and did not come by the layer."""
        organization_ids = [feed.id for feed in feeds]
        await threads.run(number_stuck_in, organization_ids)
        before = {feed.id: dict(feed._offsets) for feed in feeds}
        seen = await threads.run(look, organization_ids, since=min(feed.horizon for feed in feeds))
        for feed in feeds:
            feed.horizon = seen.horizon
            offsets = seen.changed.get(feed.id, {})
            feed._take(offsets, set_back=[one for one in offsets if offsets[one] < before[feed.id].get(one, -1)])

    def hello_text(self) -> str:
        """Return the first frame of a socket."""
        return frame_text(type="hello", organization_id=self.id)

    def heartbeat_text(self) -> str:
        """Return the frame that tells a client that the connection is alive."""
        return frame_text(type="heartbeat")

    # --- inside -------------------------------------------------------------------------------------------------------

    def _take(self, offsets: Mapping[UUID, int], set_back: Sequence[UUID] = ()) -> None:
        """Tell of the flows that are further than was known, and of those that a restored backup set back."""
        news = {one: offset for one, offset in offsets.items() if offset > self._offsets.get(one, -1)}
        news |= {one: offsets[one] for one in set_back}
        if news:
            self._offsets |= news
            self._changed |= news.keys()
            self._tell_soon()

    def _tell_soon(self) -> None:
        """Tell at once after a quiet time, else when the pause is over."""
        if self._telling is None:
            self._telling = asyncio.get_running_loop().call_at(self._next_frame, self._tell)

    def _tell(self) -> None:
        self._telling = None
        self._next_frame = asyncio.get_running_loop().time() + PAUSE_SECONDS
        changed, self._changed = sorted(self._changed), set()
        flows = [{"flow_id": flow_id, "offset": self._offsets[flow_id]} for flow_id in changed]
        for begin in range(0, len(flows), FLOWS_PER_FRAME):
            self.broadcast(frame_text(type="changed", flows=flows[begin : begin + FLOWS_PER_FRAME]))
