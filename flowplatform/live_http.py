"""Daphne's HTTP connections with limits: Twisted would write a body of any size to disk, and wait for it for ever.

A request that is too large or too slow goes on to Django at once, with the reason instead of its body
(`flowplatform/bodies.py`), and its connection ends with the answer.
"""

from typing import Any

from daphne.http_protocol import HTTPFactory, WebRequest
from django.conf import settings
from twisted.internet import reactor
from twisted.internet.base import DelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel

from flowplatform.bodies import BODY_SECONDS, LINGER_BYTES, LINGER_SECONDS, MAX_BODY_BYTES, MAX_CHUNKS
from flowplatform.flow_control import FlowControl

HEAD_SECONDS = 10  # for the request line and the headers, from their first byte
CODING_BYTES = 16 * MAX_CHUNKS  # around the chunks of a body


class BoundedRequest(WebRequest):  # type: ignore[misc]
    """A request that may have been refused before its body was there."""

    refused: int | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Forms are Django's. Twisted would read them too, on the event loop, and for nobody.
        super().__init__(*args, **{**kwargs, "parsePOSTFormSubmission": False})
        self.channel.factory.heard_of(self.channel)
        self.flow_control = FlowControl()

    def process(self) -> Any:
        """Have it answered, and hear whether the client reads; a socket has its own way."""
        if self.requestHeaders.getRawHeaders(b"Upgrade", [b""])[0].lower() != b"websocket":
            self.registerProducer(self.flow_control, True)
        return super().process()

    def finish(self) -> None:
        """End the answer: nothing more is sent."""
        self.unregisterProducer()
        super().finish()

    def handle_exception(self, exception: Exception) -> None:
        """Answer 500, or cut the connection if an answer has begun: without its end it is known to be broken."""
        if not self._response_started:
            super().handle_exception(exception)
        elif not self.finished and self.channel is not None:
            self.transport.abortConnection()

    def check_timeouts(self) -> None:
        """Cut an answer that takes too long once it has begun: Daphne would end it as if it were whole."""
        if self._response_started and self.duration() > self.server.http_timeout:
            self.abort()
        else:
            super().check_timeouts()

    def abort(self) -> None:
        """Cut the connection, with what lies in its buffer."""
        if self.channel is not None:
            self.channel.forceAbortClient()


class BoundedChannel(HTTPChannel):
    """A connection whose requests have to be there within seconds, and small."""

    _deadline: DelayedCall | None = None
    _coded_bytes = 0  # of a body, as they came
    _is_refused = False
    _passed_over: int | None = None  # bytes that came after the answer of a refusal

    def connectionMade(self) -> None:  # noqa: N802  (Twisted's names)
        """Wait for its first line."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.factory.wait_for(self)

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        """Begin to count the time of a request with its first byte; pass over what was refused."""
        if self._passed_over is not None:
            self._passed_over += len(data)
            if self._passed_over > LINGER_BYTES:
                self.forceAbortClient()  # type: ignore[no-untyped-call]
            return
        if self._deadline is None and not self._handlingRequest:
            self._expect(HEAD_SECONDS, self.forceAbortClient)
        super().dataReceived(data)  # type: ignore[no-untyped-call]

    def allHeadersReceived(self) -> None:  # noqa: N802
        """Refuse a length that is too large, before anything of it is read or asked for; time the rest."""
        request = self.requests[-1]
        if self.length != 0:
            request.requestHeaders.removeHeader(b"Upgrade")  # a socket's handshake has no body: nobody would read it
        is_too_large = self.length is not None and self.length > MAX_BODY_BYTES
        if is_too_large:
            request.requestHeaders.removeHeader(b"Expect")
            self.length = 0  # so that Twisted takes the request for complete
        super().allHeadersReceived()  # type: ignore[no-untyped-call]
        if is_too_large:
            self._mark(413)
        self._coded_bytes = 0
        self._expect(BODY_SECONDS, self._refuse, 408)

    def rawDataReceived(self, data: bytes) -> None:  # noqa: N802
        """Take a piece of the body, and stop at one that goes too far."""
        super().rawDataReceived(data)
        if self._handlingRequest or not self.requests:
            return
        self._coded_bytes += len(data)
        taken = self.requests[-1].content.tell()
        announced = getattr(self._transferDecoder, "length", None) or 0  # of the chunk that has begun
        if max(taken + announced, self._coded_bytes - CODING_BYTES) > MAX_BODY_BYTES:
            self._refuse(413)

    def allContentReceived(self) -> None:  # noqa: N802
        """The request is there."""
        self._expect(None)
        super().allContentReceived()  # type: ignore[no-untyped-call]

    def loseConnection(self) -> None:  # noqa: N802
        """Close; our end first while a client still sends, or it may never read the answer (RFC 9112, 9.6)."""
        if not self._is_refused:
            super().loseConnection()  # type: ignore[no-untyped-call]
        elif self._passed_over is None:
            self._passed_over = 0
            self._networkProducer.unregisterProducer()
            self.transport.loseWriteConnection()  # type: ignore[union-attr]
            self._expect(LINGER_SECONDS, self.forceAbortClient)

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802
        """Nothing is expected any more."""
        self.factory.heard_of(self)
        self._expect(None)
        super().connectionLost(reason)  # type: ignore[no-untyped-call]

    def _refuse(self, status: int) -> None:
        """Have a request answered without the rest of its body, which nobody reads."""
        self._mark(status)
        self.allContentReceived()

    def _mark(self, status: int) -> None:
        self._is_refused = True
        self.requests[-1].refused = status
        self.persistent = False

    def _expect(self, seconds: float | None, otherwise: Any = None, *arguments: Any) -> None:
        """Do something unless the next step is made in time; `None` seconds: there is none."""
        if self._deadline is not None:
            if self._deadline.active():
                self._deadline.cancel()
            self._deadline = None
        if seconds is not None:
            self._deadline = self.callLater(seconds, otherwise, *arguments)  # type: ignore[no-untyped-call]


class BoundedFactory(HTTPFactory):  # type: ignore[misc]
    """Makes such connections, and cuts those that do not begin to ask: of these there are only so many."""

    protocol = BoundedChannel

    def __init__(self, server: Any) -> None:
        super().__init__(server)
        self._silent: dict[BoundedChannel, DelayedCall] = {}  # and the calls that will cut them; the oldest first

    def buildProtocol(self, addr: Any) -> BoundedChannel:  # noqa: N802
        """Make one, with the requests that can be refused."""
        channel: BoundedChannel = super().buildProtocol(addr)
        channel.requestFactory = BoundedRequest
        return channel

    def wait_for(self, channel: BoundedChannel) -> None:
        """Give a new connection a few seconds, or cut the oldest of too many."""
        self._silent[channel] = reactor.callLater(self.server.websocket_connect_timeout, self._cut, channel)
        if len(self._silent) > settings.SOCKETS_WAITING:
            self._cut(next(iter(self._silent)))

    def heard_of(self, channel: BoundedChannel) -> None:
        """Wait no more."""
        waiting = self._silent.pop(channel, None)
        if waiting is not None and waiting.active():
            waiting.cancel()

    def _cut(self, channel: BoundedChannel) -> None:
        self.heard_of(channel)
        channel.forceAbortClient()  # type: ignore[no-untyped-call]
