"""The way from granian to a WSGI application: bodies are read on the event loop, and few threads answer.

By granian's own way a request gets its thread before its body is there, which is read without a limit of time: two slow
clients would hold both threads of a process. Here a thread is taken for a request that is complete or refused.
"""

import asyncio
import logging
import os
import select
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING

from flowplatform import draining
from flowplatform.bodies import (
    BODY_SECONDS,
    LINGER_BYTES,
    LINGER_SECONDS,
    MAX_BODY_BYTES,
    MAX_CHUNKS,
    READER_SECONDS,
    REFUSED,
    Unreadable,
    is_too_large,
)
from flowplatform.gateway import Answer, answer_of, environment, give_body

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment
    from granian._granian import RSGIHTTPProtocol as HTTPProtocol  # by a public name it has no type
    from granian.rsgi import Scope

logger = logging.getLogger(__name__)

WHOLE_BYTES = 256 * 1024  # an answer in parts that says to be shorter, such as a static file, is sent as one
OPEN_SECONDS = 2  # for granian to begin with one that is longer; it does at once, or the client has gone


class WebApplication:
    """A WSGI application as granian's own interface wants it (RSGI)."""

    def __init__(self, application: "WSGIApplication", threads: int) -> None:
        self._application = application
        self._threads = threads

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin a process. It was forked: threads of before would not be here."""
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="web")

    async def __rsgi__(self, scope: "Scope", protocol: "HTTPProtocol") -> None:
        """Read a request, have a thread answer it, and stay until that is done."""
        environ = _environ(scope)
        await _read_body(environ, protocol)
        answered: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pool.submit(copy_context().run, self._answer, environ, protocol, answered, scope.client)
        await answered

    def _answer(
        self, environ: "WSGIEnvironment", protocol: "HTTPProtocol", answered: "asyncio.Future[None]", client: str
    ) -> None:
        """Answer a request, in a thread. If anything goes wrong before the answer leaves, granian says 500."""
        loop = answered.get_loop()
        try:
            with answer_of(self._application, environ) as answer:
                if draining.has_begun():
                    answer.headers.append(("Connection", "close"))
                if answer.is_streamed:
                    _stream(answer, protocol, loop, client)
                else:
                    protocol.response_bytes(answer.status, answer.headers, b"".join(answer.parts))
        except Exception:
            logger.exception("a request was not answered to its end")
        finally:
            with suppress(RuntimeError):  # the loop has ended before us
                loop.call_soon_threadsafe(_settle, answered)


def _settle(answered: "asyncio.Future[None]") -> None:
    if not answered.done():  # cancelled: the client has gone
        answered.set_result(None)


# --- The request ----------------------------------------------------------------------------------------------------


def _environ(scope: "Scope") -> "WSGIEnvironment":
    address, _, port = scope.server.rpartition(":")
    return environment(
        scope.headers.items(),
        REQUEST_METHOD=scope.method,
        PATH_INFO=scope.path.encode().decode("latin1"),
        QUERY_STRING=scope.query_string,
        SERVER_NAME=address,
        SERVER_PORT=port,
        SERVER_PROTOCOL=f"HTTP/{scope.http_version}",
        REMOTE_ADDR=scope.client.rpartition(":")[0].strip("[]"),
        HTTP_HOST=scope.authority or "",
        **{"wsgi.url_scheme": scope.scheme},
    )


async def _read_body(environ: "WSGIEnvironment", protocol: "HTTPProtocol") -> None:
    """Put the body into the environment, or the status that refuses it."""
    body = b""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await _body(environ, protocol)
    except TimeoutError:
        environ[REFUSED] = 408
    except Unreadable as error:
        environ[REFUSED] = error.status
    except RuntimeError:  # granian's word for a connection that ended, or lost its place
        environ[REFUSED] = 400
    give_body(environ, body)


async def _body(environ: "WSGIEnvironment", protocol: "HTTPProtocol") -> bytes:
    """Return the body of a request; raise `Unreadable` at one that is too large or coded in a way that is not ours."""
    if "HTTP_TRANSFER_ENCODING" in environ:
        if environ["HTTP_TRANSFER_ENCODING"].lower() != "chunked":  # granian looks at the end of it only
            raise Unreadable(400)
        return await _chunks(protocol)
    length = environ.get("CONTENT_LENGTH", "0")
    if is_too_large(length):
        if int(length) <= LINGER_BYTES and "HTTP_EXPECT" not in environ:  # whoever waits for our word sends nothing yet
            await _pass_over(_parts(protocol))
        raise Unreadable(413)
    return b"" if length == "0" else await protocol()


async def _chunks(protocol: "HTTPProtocol") -> bytes:
    """Return a body without a known length. Chunks are counted, too: each takes a turn of the event loop."""
    body, count = bytearray(), 0
    parts = _parts(protocol)
    async for part in parts:
        body += part
        count += 1
        if len(body) > MAX_BODY_BYTES or count > MAX_CHUNKS:
            await _pass_over(parts)
            raise Unreadable(413)
    return bytes(body)


async def _parts(protocol: "HTTPProtocol") -> AsyncIterator[bytes]:
    """Yield the pieces of a body, in a form that several loops may share: granian gives its own out once."""
    async for part in protocol:
        yield part


async def _pass_over(parts: AsyncIterator[bytes]) -> None:
    """Read the rest of what is refused, within bounds: granian closes the connection as soon as it has answered."""
    count = 0
    with suppress(TimeoutError, RuntimeError):
        async with asyncio.timeout(LINGER_SECONDS):
            async for part in parts:
                count += len(part)
                if count > LINGER_BYTES:
                    return


# --- A streamed answer ----------------------------------------------------------------------------------------------


def _stream(answer: Answer, protocol: "HTTPProtocol", loop: asyncio.AbstractEventLoop, client: str) -> None:
    """Send an answer that comes in parts, each at once, but no faster than the client reads them.

    granian's stream takes whatever it is given and keeps it until it has left. A file it reads as it goes, and a pipe
    with a name is one.
    """
    if int(dict(answer.headers).get("Content-Length", WHOLE_BYTES)) < WHOLE_BYTES:
        protocol.response_bytes(answer.status, answer.headers, b"".join(answer.parts))
        return
    gone = asyncio.run_coroutine_threadsafe(_end_of(protocol), loop)
    with _pipe() as path:
        protocol.response_file(answer.status, answer.headers, str(path))
        _write(path, answer.parts, gone, client)
    gone.cancel()


async def _end_of(protocol: "HTTPProtocol") -> None:
    await protocol.client_disconnect()


@contextmanager
def _pipe() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="flowplatform-answer-") as folder:
        path = Path(folder) / "answer"
        os.mkfifo(path, 0o600)
        yield path


def _write(path: Path, parts: Iterable[bytes], gone: "Future[None]", client: str) -> None:
    """Write into a pipe that is read at the other end; stop when it is not any more, and cut a client that stalls."""
    descriptor = _opened(path, gone)
    if descriptor is None:
        return
    try:
        writable = select.poll()
        writable.register(descriptor, select.POLLOUT)
        for part in parts:
            rest = memoryview(part)
            while rest:
                if not writable.poll(READER_SECONDS * 1_000):
                    logger.warning("a client read nothing of its answer for %s s", READER_SECONDS)
                    _cut(client)
                    return
                rest = rest[os.write(descriptor, rest) :]
    except BrokenPipeError:
        return  # the client has gone
    finally:
        os.close(descriptor)


def _opened(path: Path, gone: "Future[None]") -> int | None:
    """Return the pipe's end to write to, as soon as it has one to read from; `None` if nobody wants the answer."""
    end = time.monotonic() + OPEN_SECONDS
    while time.monotonic() < end and not gone.done():
        try:
            return os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:  # ENXIO: not yet
            time.sleep(0.005)
    return None


def _cut(client: str) -> None:
    """End the connection of a client (`address:port`), for which granian has no way.

    The end of the pipe alone would look like the end of the answer, and a file that broke off like a whole one.
    """
    for path in Path("/dev/fd").iterdir():
        with suppress(OSError):  # closed meanwhile, or connected to nobody
            if path.is_socket():
                with socket.socket(fileno=os.dup(int(path.name))) as connection:
                    if _peer_of(connection) == client:
                        connection.shutdown(socket.SHUT_RDWR)


def _peer_of(connection: socket.socket) -> str | None:
    if connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    host, port, *_ = connection.getpeername()
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
