"""What every feed of a live process has: one thing that is watched, and the inboxes of the sockets that watch it."""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self
from uuid import UUID

from flowplatform import metrics
from flowplatform.encoding import encode
from notifications.close_codes import TOO_SLOW
from notifications.guard import End
from notifications.layer import Message, group_of
from notifications.threads import DatabaseThreads

INBOX_CHARACTERS = 4 * 1024 * 1024  # a socket that lags by more is too slow; the texts are shared by all sockets


class Subscription:
    """The bounded inbox of one socket."""

    def __init__(self, end: End, send_now: Callable[[str], bool]) -> None:
        self.end = end
        self._inbox: deque[str] = deque()
        self._waiting = 0
        self._news: asyncio.Future[None] | None = None  # while the socket's task waits for it
        self._send_now = send_now

    def put(self, text: str) -> None:
        """Send a frame, or add it to what waits; a full inbox ends the socket instead: it is too slow."""
        if self._news is not None and not self._news.done():  # the socket's task has sent all before, and sleeps
            if self._send_now(text):
                return
            self._news.set_result(None)
        if self._waiting > INBOX_CHARACTERS:
            self.end(TOO_SLOW)
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
        """Forget what came so far: the socket begins at the feed's position of this moment."""
        self._inbox.clear()
        self._waiting = 0


class Feed(ABC):
    """One flow or organization in this process. Its position moves only between two awaits (see `hub.py`)."""

    kind: ClassVar[str]  # the first part of the group, and of the messages' type

    def __init__(self, subject_id: UUID, threads: DatabaseThreads) -> None:
        self.id = subject_id
        self.group = group_of(self.kind, subject_id)
        self.threads = threads
        self.users = 0
        self.is_open = False
        self.subscribed = False
        self.subscriptions: set[Subscription] = set()
        self.opening: asyncio.Task[None] | None = None
        self._frames = metrics.socket_frames.labels(self.kind)

    def __str__(self) -> str:
        return f"{self.kind} {self.id}"

    @abstractmethod
    async def begin(self) -> None:
        """Read where the feed begins, after joining the group: nothing can fall between the two."""

    @abstractmethod
    def receive(self, message: Message) -> None:
        """Take a message of the channel layer; some come before `begin` has ended."""

    @classmethod
    @abstractmethod
    async def look(cls, feeds: Sequence[Self], threads: DatabaseThreads) -> None:
        """Bring open feeds of this class, at least one, what the layer lost: one reading for all of them."""

    @abstractmethod
    def hello_text(self) -> str:
        """Return the first frame of a socket."""

    @abstractmethod
    def heartbeat_text(self) -> str:
        """Return the frame that tells a client that the connection is alive."""

    def broadcast(self, text: str) -> None:
        """Put one text, encoded once, into every inbox."""
        self._frames.inc(len(self.subscriptions))
        for subscription in list(self.subscriptions):
            subscription.put(text)

    def end(self, code: int) -> None:
        """Close every socket: what they watch is gone."""
        for subscription in list(self.subscriptions):
            subscription.end(code)


def frame_text(**fields: Any) -> str:
    """Return a frame as the text of a socket message."""
    return encode(fields).decode()
