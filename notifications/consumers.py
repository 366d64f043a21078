"""The sockets: who may watch what, its frames, and the close codes of the contract.

`/ws/flows/{flow_id}` sends every event of a flow in order, or a reset; `/ws/organizations/{organization_id}` says which
flows of an organization changed.
"""

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar, cast
from urllib.parse import parse_qs
from uuid import UUID

from channels.consumer import AsyncConsumer, get_handler_name
from channels.exceptions import StopConsumer
from django.conf import settings

from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import Organization
from flowplatform.accounts.sockets import actor_of_scope
from flowplatform.accounts.throttles import Opening, TooMuch
from notifications.crowding import Crowd, TooManySockets
from notifications.feed import Feed, Subscription
from notifications.flow_feed import CATCH_UP_EVENTS, FlowFeed
from notifications.hub import Hub
from notifications.models import Stream
from notifications.organization_feed import OrganizationFeed
from notifications.relay import frames
from notifications.replay import replay

logger = logging.getLogger(__name__)

F = TypeVar("F", bound=Feed)

SEND_NOW = "flowplatform.send_now"  # an ASGI extension of our server; others do without it
NOT_AUTHENTICATED = 4401
UNKNOWN = 4404
TOO_SLOW = 4408
TOO_MANY = 4429
RESTART = 1012

REPLAY_EVENTS = 10_000  # a client further behind is better served by a refetch


class Refused(Exception):  # noqa: N818  (not an error: a way to say goodbye)
    """The socket is closed with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class PlainConsumer(AsyncConsumer):  # type: ignore[misc]
    """A consumer without a channel of its own, and without the hop through one shared thread for every message.

    Channels would join the layer for every socket, and look for old database connections in a thread;
    here the hub does the first once per feed, and its threads give their connections back themselves.
    """

    channel_layer_alias = "none"

    async def dispatch(self, message: dict[str, Any]) -> None:
        await getattr(self, get_handler_name(message))(message)

    async def websocket_receive(self, message: dict[str, Any]) -> None:
        """Clients have nothing to say here."""


class UnknownConsumer(PlainConsumer):
    """Every other path: accepted only to be closed with a code that a browser can read."""

    async def websocket_connect(self, message: dict[str, Any]) -> None:
        """Say that there is no such thing."""
        await self.send({"type": "websocket.accept"})
        await self.send({"type": "websocket.close", "code": UNKNOWN})

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        """End the consumer."""
        raise StopConsumer


class FeedConsumer(PlainConsumer, Generic[F]):
    """One socket that watches one feed. The sockets of all kinds are counted together."""

    kind: ClassVar[type[Feed]]

    _hubs: ClassVar[dict[asyncio.AbstractEventLoop, Hub]] = {}
    _crowd: ClassVar[Crowd] = Crowd()

    _session: asyncio.Task[None]
    _close_code: int | None = None

    @property
    def hub(self) -> Hub:
        """The feeds of this process (of this event loop, to be exact)."""
        loop = asyncio.get_running_loop()
        if loop not in self._hubs:
            self._hubs[loop] = Hub()
        return self._hubs[loop]

    async def websocket_connect(self, message: dict[str, Any]) -> None:
        """Accept, so that a browser can read the close code of a refusal, and serve in a task of its own."""
        await self.send({"type": "websocket.accept"})
        self._session = asyncio.create_task(self._run())

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        """The client is gone."""
        self._session.cancel()
        await asyncio.gather(self._session, return_exceptions=True)
        raise StopConsumer

    async def _run(self) -> None:
        """Serve until the client goes, and close with the reason if it is ours."""
        try:
            await self._serve()
        except Refused as refusal:
            self._close_code = refusal.code
        except (TooManySockets, TooMuch):
            self._close_code = TOO_MANY
        except asyncio.CancelledError:
            if self._close_code is None:
                raise
        except Exception:
            logger.exception("a socket of %s %s failed", self.kind.kind, self._named)
            self._close_code = RESTART
        await self.send({"type": "websocket.close", "code": self._close_code or RESTART})

    def _end(self, code: int) -> None:
        """Close from outside of the session, which may be stuck in a send."""
        if self._close_code is None:
            self._close_code = code
            self._session.cancel()

    async def _serve(self) -> None:
        opening = Opening.of(self.scope)
        with self._crowd.from_address(opening.address):
            with self._crowd.waiting():
                actor, subject_id = await self._admit(opening)
            with self._crowd.of_actor(actor.id):
                await self._serve_admitted(subject_id)

    async def _serve_admitted(self, subject_id: UUID) -> None:
        age = settings.SOCKET_MAX_AGE_HOURS * 3600 * random.uniform(0.8, 1.0)
        expiry = asyncio.get_running_loop().call_later(age, self._end, RESTART)
        try:
            watching = self.hub.watching(self.kind, subject_id, lambda: self._end(TOO_SLOW), self._send_now)
            async with watching as (feed, subscription):
                await self._watch(cast(F, feed), subscription)
        finally:
            expiry.cancel()

    async def _admit(self, opening: Opening) -> tuple[Actor, UUID]:
        """Return who watches what; refuse without a credential, and what does not exist for the actor."""
        actor = await self.hub.threads.run(self._charged_actor, opening)
        if actor is None:
            raise Refused(NOT_AUTHENTICATED)
        try:
            subject_id = UUID(self._named)
        except ValueError:
            raise Refused(UNKNOWN) from None
        if not await self.hub.threads.run(self.exists, actor, subject_id):
            raise Refused(UNKNOWN)
        return actor, subject_id

    def _charged_actor(self, opening: Opening) -> Actor | None:
        opening.begin()
        actor = actor_of_scope(self.scope)
        opening.end(actor)
        return actor

    @property
    def _named(self) -> str:
        """What the address names, as it is."""
        named: str = self.scope["url_route"]["kwargs"]["id"]
        return named

    @staticmethod
    def exists(actor: Actor, subject_id: UUID) -> bool:
        """Say whether there is such a thing to watch for the actor. Queries the database."""
        raise NotImplementedError

    async def _watch(self, feed: F, subscription: Subscription) -> None:
        """Send the greeting, and then every frame as it comes."""
        await self._greet(feed, subscription)
        while True:
            await self._text(await subscription.get())

    async def _greet(self, feed: F, subscription: Subscription) -> None:
        """Send hello. The inbox has everything from then on."""
        subscription.clear()
        await self._text(feed.hello_text())

    @property
    def _send_now(self) -> Callable[[str], bool]:
        """What the server offers for sending without a turn of this socket's task (`flowplatform/live.py`)."""
        offered: Callable[[str], bool] = self.scope.get("extensions", {}).get(SEND_NOW, lambda text: False)
        return offered

    async def _text(self, text: str) -> None:
        await self.send({"type": "websocket.send", "text": text})


class OrganizationConsumer(FeedConsumer[OrganizationFeed]):
    """One socket that watches one organization."""

    kind = OrganizationFeed

    @staticmethod
    def exists(actor: Actor, subject_id: UUID) -> bool:
        """Ask only about the actor's own: a foreign organization is answered like a missing one, and as soon."""
        return actor.acts_in(subject_id) and Organization.objects.filter(pk=subject_id).exists()


class FlowConsumer(FeedConsumer[FlowFeed]):
    """One socket that watches one flow."""

    kind = FlowFeed

    @staticmethod
    def exists(actor: Actor, subject_id: UUID) -> bool:
        """Look for the stream, which names the organization of the flow."""
        return Stream.objects.visible_to(actor).filter(pk=subject_id).exists()

    async def _greet(self, feed: FlowFeed, subscription: Subscription) -> None:
        """Send hello, and what the client missed."""
        wanted = self._wanted()
        if wanted and wanted[0] > feed.offset:  # the client heard of news elsewhere before this process did
            await feed.caught_up()
        subscription.clear()
        epoch, position = feed.epoch, feed.offset  # from here on the inbox has everything after `position`
        await self._text(feed.hello_text())
        if wanted and not await self._replayed(feed.id, epoch, position, *wanted):
            subscription.clear()  # the reset names the feed's offset of now: the inbox begins there, too
            await self._text(feed.reset_text())

    def _wanted(self) -> tuple[int, str | None] | None:
        """Return `since` and `epoch` of the address; a `since` that is no number counts as a lost past."""
        query = parse_qs(self.scope["query_string"].decode("latin1"))
        since, epoch = query.get("since", [""])[0], query.get("epoch", [""])[0]
        if not since:
            return None
        return int(since) if since.isdecimal() and len(since) < 19 else -1, epoch or None

    async def _replayed(self, flow_id: UUID, epoch: str, position: int, since: int, wanted_epoch: str | None) -> bool:
        """Send the events after `since` up to `position`; `False` if they are gone, too many or of another epoch."""
        if not 0 <= since <= position or position - since > REPLAY_EVENTS or wanted_epoch not in (None, epoch):
            return False
        while since < position:
            limit = min(CATCH_UP_EVENTS, position - since)
            _, rows = await self.hub.threads.run(replay, flow_id, since=since, epoch=epoch, limit=limit)
            if not rows:
                return False
            for frame in frames(rows):
                await self._text(frame.text)
            since = rows[-1][0]
        return True
