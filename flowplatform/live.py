"""`python -m flowplatform.live`: Daphne with what it lacks, back-pressure for sockets and a goodbye at shutdown.

Daphne writes to a socket without looking whether anybody reads: a client that does not read grows the process without
limit. Here a send waits while the transport holds more than its buffer (64 KiB), so the consumer's bounded
inbox fills and the socket is closed with 4408. On SIGTERM sockets are closed with 1012, and requests may finish; who
comes from then on is refused, and finds another process. An answer that breaks after its first bytes ends with its
connection: Daphne would leave the client waiting for the rest.

A connection has a few seconds to say what it wants, and of those that have not yet there are only so many: the one that
has been silent for longest makes room. So connections that never asked cannot keep others out.

A text that many sockets are sent is made a frame once, and goes to the kernel at once. By autobahn's and the reactor's
way, with a round of the event loop and of the socket's task for each, it takes several times as long.
"""

import sys

from daphne import server  # installs the asyncio reactor; has to come before anything else of Twisted

from flowplatform import role  # isort: skip

role.claim("live")  # before anything asks for it: whose rows are shown to whom says nothing, and who is counted

import argparse  # noqa: E402
import asyncio  # noqa: E402
import resource  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from contextlib import suppress  # noqa: E402
from functools import lru_cache  # noqa: E402
from typing import Any  # noqa: E402

from autobahn.websocket.protocol import PreparedMessage  # noqa: E402
from daphne.cli import CommandLineInterface  # noqa: E402
from daphne.ws_protocol import WebSocketFactory, WebSocketProtocol  # noqa: E402
from twisted.internet import defer, tcp  # noqa: E402

from flowplatform.bodies import READER_SECONDS, REFUSED  # noqa: E402
from flowplatform.flow_control import FlowControl  # noqa: E402
from flowplatform.live_http import BoundedFactory, BoundedRequest  # noqa: E402

SEND_NOW = "flowplatform.send_now"  # the extension's name; notifications/consumers.py asks for it
RESTART = 1012
CLOSE_SECONDS = 0.3  # at shutdown, for the close frames to leave
SLOW_CLOSE_SECONDS = 10  # for a slow client to read up to its close frame, before the connection is cut
HANDSHAKE_SECONDS = 5  # for a connection to begin to ask, and for a socket to be accepted
ANSWER_SECONDS = 300  # for a request to be answered to its end; exports are long
PING_SECONDS = 20  # a socket that said nothing for so long is asked whether it is there
PONG_SECONDS = 30  # for it to answer
MESSAGE_BYTES = 4096  # of what a client says over a socket, to which we do not listen
DRAIN_SECONDS = 5.0  # for requests that are being answered
OPEN_FILES = 8_192  # every socket is one, and SOCKETS_PER_PROCESS are allowed; a usual shell gives us 1,024
FRAMES_KEPT = 16  # encoded; sockets of a flow are sent the same few at the same time


@lru_cache(FRAMES_KEPT)
def frame_of(text: str) -> bytes:
    """Return a text as a WebSocket frame, ready for the wire. A text that is shared has its hash already."""
    frame: bytes = PreparedMessage(text.encode(), isBinary=False, applyMask=False, doNotCompress=True).payloadHybi
    return frame


class FlowControlledProtocol(WebSocketProtocol):  # type: ignore[misc]
    """A socket that knows whether its client reads."""

    flow_control: FlowControl | None = None
    _is_plain = False

    def onOpen(self) -> None:  # noqa: N802
        """Take the place of the HTTP channel, which was the transport's producer until the upgrade."""
        super().onOpen()
        self.closeHandshakeTimeout = SLOW_CLOSE_SECONDS
        self.flow_control = FlowControl()
        self._is_plain = isinstance(self.transport, tcp.Connection) and not self.transport.TLS
        self.transport.unregisterProducer()
        self.transport.registerProducer(self.flow_control, True)

    def send_now(self, text: str) -> bool:
        """Send a text as one frame if nothing is to leave before it; `False` if something is."""
        transport = self.transport
        if self.state != self.STATE_OPEN or not self._is_plain or transport.dataBuffer or transport._tempDataLen:
            return False
        frame = frame_of(text)
        sent = transport.writeSomeData(frame)
        if sent != len(frame):  # the kernel's buffer is full, or the connection is lost: the reactor does the rest
            transport.write(frame[sent:] if isinstance(sent, int) else frame)
        return True

    def serverSend(self, content: str, binary: bool = False) -> None:  # noqa: N802
        """Send a text as one frame: autobahn's own method holds us to the small size that clients may send."""
        if self.state == self.STATE_OPEN and not self.send_now(content):
            self.transport.write(frame_of(content))

    def serverClose(self, code: int | None = None) -> None:  # noqa: N802
        """Close with any code: autobahn's own method knows no 1012 (service restart, RFC 6455's registry)."""
        if self.state == self.STATE_OPEN:
            self.sendCloseFrame(code=1000 if code is None else code)
        else:  # still in its handshake, or ended already
            self.dropConnection(abort=True)


class LiveServer(server.Server):  # type: ignore[misc]
    """Daphne's server with back-pressure, little patience and an orderly end."""

    def run(self) -> None:
        server.HTTPFactory = BoundedFactory
        WebSocketFactory.protocol = FlowControlledProtocol
        self._ports: list[Any] = []
        super().run()

    def listen_success(self, port: Any) -> None:
        """Remember where we listen, to stop it."""
        super().listen_success(port)
        self._ports.append(port)

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> "asyncio.Queue[Any] | None":
        """Offer sockets a way to send without waiting, as an ASGI extension; say why a request was refused."""
        if isinstance(protocol, FlowControlledProtocol):
            scope["extensions"] = {SEND_NOW: protocol.send_now}
        elif protocol.refused is not None:
            scope[REFUSED] = protocol.refused
        queue: asyncio.Queue[Any] | None = super().create_application(protocol, scope)
        return queue

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        """Pass a message on to the client; a part of something waits until the client has read the ones before."""
        flow_control = getattr(protocol, "flow_control", None)
        if isinstance(protocol, BoundedRequest) and message.get("more_body"):
            await self._until_read(protocol)
        elif flow_control is not None and message["type"] == "websocket.send":
            if not flow_control.writable.is_set():
                await flow_control.writable.wait()
            protocol.serverSend(message["text"])
            return
        await super().handle_reply(protocol, message)

    async def _until_read(self, request: BoundedRequest) -> None:
        """Wait for the client, but not for one that reads nothing: the thread that answers waits with us.

        Raises ConnectionResetError if there is nobody to read.
        """
        if not request.flow_control.writable.is_set():
            try:
                await asyncio.wait_for(request.flow_control.writable.wait(), READER_SECONDS)
            except TimeoutError:
                request.abort()
        if "disconnected" in self.connections.get(request, {"disconnected": True}):
            raise ConnectionResetError

    def kill_all_applications(self) -> "defer.Deferred[None]":
        """At shutdown: end in order, and cancel what does not end by itself."""
        return defer.Deferred.fromFuture(asyncio.ensure_future(self._leave()))

    async def _leave(self) -> None:
        """Let nobody in, close every socket with 1012 and let running requests end."""
        for port in self._ports:
            port.stopListening()
        for protocol in list(self.connections):
            if isinstance(protocol, FlowControlledProtocol):
                protocol.serverClose(code=RESTART)
        await asyncio.sleep(CLOSE_SECONDS)
        deadline = asyncio.get_running_loop().time() + DRAIN_SECONDS
        while self._busy() and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.05)
        for task in self._applications():
            task.cancel()

    def _applications(self) -> "list[asyncio.Future[None]]":
        instances = (details.get("application_instance") for details in self.connections.values())
        return [instance for instance in instances if instance is not None and not instance.done()]

    def _busy(self) -> bool:
        """Say whether an HTTP request is still being answered."""
        return any(
            "application_instance" in details and not details["application_instance"].done()
            for protocol, details in self.connections.items()
            if not isinstance(protocol, FlowControlledProtocol) and not details.get("disconnected")
        )


class Live(CommandLineInterface):  # type: ignore[misc]
    """Daphne's command line with our server."""

    description = "Flow Platform: HTTP and WebSockets on one port"
    server_class = LiveServer

    def __init__(self) -> None:
        super().__init__()
        self.parser.add_argument(
            "--behind-proxy",
            action=_BehindProxy,
            nargs=0,
            help="believe X-Real-IP and X-Forwarded-Proto, whoever sends them: only where nobody but the proxy can",
        )


class _BehindProxy(argparse.Action):
    """Daphne's own options for the one header that a client cannot write into: by default it takes X-Forwarded-For."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        namespace.proxy_headers, namespace.proxy_headers_host = True, "X-Real-IP"


def _allow_open_files() -> None:
    """Raise the soft limit as far as is useful and allowed."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # macOS has limits beside this one
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def main(arguments: list[str]) -> None:
    """Serve. Takes Daphne's options; clients have nothing to say over a socket, so a large frame ends it."""
    _allow_open_files()
    Live().run([*_limits(), "--no-server-name", "--verbosity", "0", *arguments, "flowplatform.asgi:application"])


def _limits() -> Iterator[str]:
    """Yield Daphne's options; what is given on the command line comes after them and counts."""
    limits = {
        "websocket_connect_timeout": HANDSHAKE_SECONDS,
        "http-timeout": ANSWER_SECONDS,
        "ping-interval": PING_SECONDS,
        "ping-timeout": PONG_SECONDS,
        "websocket-max-message-size": MESSAGE_BYTES,
        "websocket-max-frame-size": MESSAGE_BYTES,
    }
    for name, value in limits.items():
        yield from (f"--{name}", str(value))


if __name__ == "__main__":
    main(sys.argv[1:])
