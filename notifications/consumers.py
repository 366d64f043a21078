"""The sockets: who may watch what, its frames, and the close codes of the contract.

`/ws/flows/{flow_id}` sends every event of a flow in order, or a reset; `/ws/organizations/{organization_id}` says which
flows of an organization changed.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, ClassVar, Generic, TypeVar, cast
from urllib.parse import parse_qs
from uuid import UUID

from channels.consumer import AsyncConsumer, get_handler_name
from channels.exceptions import StopConsumer
from django.conf import settings
from structlog.contextvars import bind_contextvars

from flowplatform import metrics, tenancy
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import Organization
from flowplatform.accounts.sockets import visitor_of_scope
from flowplatform.accounts.standing import Access, Credential
from flowplatform.accounts.throttles import Opening, TooMuch
from flowplatform.logs import about
from notifications.close_codes import NOT_AUTHENTICATED, RESTART, TOO_MANY, UNKNOWN
from notifications.crowding import Crowd, TooManySockets
from notifications.feed import Feed, Subscription
from notifications.flow_feed import CATCH_UP_EVENTS, FlowFeed
from notifications.hub import Hub
from notifications.models import Stream
from notifications.organization_feed import OrganizationFeed
from notifications.relay import frames
from notifications.replay import replay

logger = logging.getLogger(__name__)
requests_logger = logging.getLogger("flowplatform.requests")  # sockets have a line each too, when they end

F = TypeVar("F", bound=Feed)

SEND_NOW = "flowplatform.send_now"  # an ASGI extension of our server; others do without it
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

    crowd: ClassVar[Crowd] = Crowd()  # of all kinds together

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._place = ExitStack()

    def take_place(self) -> str:
        """Count among the sockets of an address until the connection has ended, and return the address.

        One that was refused goes on to count: it takes its client's time to say goodbye. Raises TooManySockets.
        """
        address = Opening.of(self.scope).address
        self._place.enter_context(self.crowd.from_address(address))
        return address

    def leave_place(self) -> None:
        """Count no more."""
        self._place.close()

    async def dispatch(self, message: dict[str, Any]) -> None:
        await getattr(self, get_handler_name(message))(message)

    async def websocket_receive(self, message: dict[str, Any]) -> None:
        """Clients have nothing to say here."""


class UnknownConsumer(PlainConsumer):
    """Every other path: accepted only to be closed with a code that a browser can read."""

    async def websocket_connect(self, message: dict[str, Any]) -> None:
        """Say that there is no such thing."""
        code = UNKNOWN
        try:
            self.take_place()
        except TooManySockets:
            code = TOO_MANY
        metrics.socket_closes.labels("none", code).inc()
        await self.send({"type": "websocket.accept"})
        await self.send({"type": "websocket.close", "code": code})

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        """End the consumer."""
        self.leave_place()
        raise StopConsumer


class FeedConsumer(PlainConsumer, Generic[F]):
    """One socket that watches one feed. The sockets of all kinds are counted together."""

    kind: ClassVar[type[Feed]]

    _hubs: ClassVar[dict[asyncio.AbstractEventLoop, Hub]] = {}
    _session: asyncio.Task[None]
    _close_code: int | None = None
    _left_with = "client"
    _begun = 0.0

    @property
    def hub(self) -> Hub:
        """The feeds of this process (of this event loop, to be exact)."""
        loop = asyncio.get_running_loop()
        if loop not in self._hubs:
            self._hubs[loop] = Hub()
        return self._hubs[loop]

    async def websocket_connect(self, message: dict[str, Any]) -> None:
        """Accept, so that a browser can read the close code of a refusal, and serve in a task of its own."""
        self._begun = asyncio.get_running_loop().time()
        await self.send({"type": "websocket.accept"})
        self._session = asyncio.create_task(self._run())

    async def websocket_disconnect(self, message: dict[str, Any]) -> None:
        """The client is gone."""
        self._left_with = "server" if message.get("code") == RESTART else "client"
        self._session.cancel()
        await asyncio.gather(self._session, return_exceptions=True)
        self.leave_place()
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
                self._note_end(self._left_with)
                raise
        except Exception:
            logger.exception("a socket of %s %s failed", self.kind.kind, self._named)
            self._close_code = RESTART
        self._note_end(str(self._close_code or RESTART))
        await self.send({"type": "websocket.close", "code": self._close_code or RESTART})

    def _note_end(self, code: str) -> None:
        """Count and log the end, in the session's task, whose lines say who watched what."""
        metrics.socket_closes.labels(self.kind.kind, code).inc()
        seconds = round(asyncio.get_running_loop().time() - self._begun, 3)
        requests_logger.info("socket", extra={"code": code, "seconds": seconds})

    def _end(self, code: int) -> None:
        """Close from outside of the session, which may be stuck in a send."""
        if self._close_code is None:
            self._close_code = code
            self._session.cancel()

    async def _serve(self) -> None:
        with self.crowd.waiting(self.take_place()):
            actor, subject_id, access = await self._admit(Opening.of(self.scope))
        # This task's own, as is every line that is logged in it.
        bind_contextvars(**{**about(actor), self.kind.kind: str(subject_id)})
        with self.crowd.of_actor(actor.id), self._counted():
            await self._serve_admitted(subject_id, access)

    async def _serve_admitted(self, subject_id: UUID, access: Access) -> None:
        age = settings.SOCKET_MAX_AGE_HOURS * 3600 * random.uniform(0.8, 1.0)
        expiry = asyncio.get_running_loop().call_later(age, self._end, RESTART)
        try:
            watching = self.hub.watching(self.kind, subject_id, self._end, self._send_now)
            with self.hub.guard.guarding(access, self._end):
                async with watching as (feed, subscription):
                    await self._watch(cast(F, feed), subscription)
        finally:
            expiry.cancel()

    async def _admit(self, opening: Opening) -> tuple[Actor, UUID, Access]:
        """Return who watches what, and by what; refuse without a credential, and what does not exist for the actor."""
        visitor = await self.hub.threads.run(self._charged_visitor, opening)
        if visitor is None:
            raise Refused(NOT_AUTHENTICATED)
        actor, credential = visitor
        try:
            subject_id = UUID(self._named)
        except ValueError:
            raise Refused(UNKNOWN) from None
        organization_id = await self.hub.threads.run(self.organization_of, actor, subject_id)
        if organization_id is None:
            raise Refused(UNKNOWN)
        return actor, subject_id, Access(credential, organization_id)

    def _charged_visitor(self, opening: Opening) -> tuple[Actor, Credential] | None:
        opening.begin()
        visitor = visitor_of_scope(self.scope)
        opening.end(visitor[0] if visitor else None)
        return visitor

    @property
    def _named(self) -> str:
        """What the address names, as it is."""
        named: str = self.scope["url_route"]["kwargs"]["id"]
        return named

    @staticmethod
    def organization_of(actor: Actor, subject_id: UUID) -> UUID | None:
        """Return whose it is; `None` if there is no such thing for the actor. Queries the database."""
        raise NotImplementedError

    @contextmanager
    def _counted(self) -> Iterator[None]:
        sockets = metrics.sockets.labels(self.kind.kind)
        sockets.inc()
        try:
            yield
        finally:
            sockets.dec()

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
    def organization_of(actor: Actor, subject_id: UUID) -> UUID | None:
        """Ask only about the actor's own: a foreign organization is answered like a missing one, and as soon."""
        with tenancy.showing(actor.shown):
            exists = actor.acts_in(subject_id) and Organization.objects.filter(pk=subject_id).exists()
        return subject_id if exists else None


class FlowConsumer(FeedConsumer[FlowFeed]):
    """One socket that watches one flow."""

    kind = FlowFeed

    @staticmethod
    def organization_of(actor: Actor, subject_id: UUID) -> UUID | None:
        """Look for the stream, which names the organization of the flow."""
        with tenancy.showing(actor.shown):
            streams = Stream.objects.visible_to(actor).filter(pk=subject_id)
            organization_id: UUID | None = streams.values_list("organization_id", flat=True).first()
        return organization_id

    async def _greet(self, feed: FlowFeed, subscription: Subscription) -> None:
        """Send hello, and what the client missed."""
        wanted = self._wanted()
        if wanted and wanted[0] > feed.offset:  # the client heard of news elsewhere before this process did
            await feed.caught_up()
        subscription.clear()
        epoch, position = feed.epoch, feed.offset  # from here on the inbox has everything after `position`
        await self._text(feed.hello_text())
        if not wanted:
            return
        is_replayed = await self._replayed(feed.id, epoch, position, *wanted)
        metrics.socket_replays.labels("replayed" if is_replayed else "reset").inc()
        if not is_replayed:
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
