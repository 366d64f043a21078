"""The live role: the sockets, and the whole HTTP side too, so that one Daphne on one port is a complete server."""

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any

from flowplatform import role

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")
role.claim("live")

from flowplatform.wsgi import application as wsgi_application  # noqa: E402  isort: skip

from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.urls import re_path  # noqa: E402

from flowplatform.bodies import READER_SECONDS, REFUSED  # noqa: E402
from flowplatform.gateway import Answer, answer_of, environment, give_body  # noqa: E402
from notifications.consumers import FlowConsumer, OrganizationConsumer, UnknownConsumer  # noqa: E402

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

Message = dict[str, Any]

_PART_SECONDS = READER_SECONDS + 5  # the server gives up on a client before that

_sockets: list[Any] = [
    re_path(r"^ws/flows/(?P<id>[^/]+)/?$", FlowConsumer.as_asgi()),
    re_path(r"^ws/organizations/(?P<id>[^/]+)/?$", OrganizationConsumer.as_asgi()),
    re_path(r"", UnknownConsumer.as_asgi()),
]


class InThreads:
    """A WSGI application under ASGI: the event loop has the whole body already, and gets a whole answer back.

    How large a body may be and how long it may take is the server's business (`flowplatform/live_http.py`).
    """

    def __init__(self, application: "WSGIApplication", threads: int) -> None:
        self._application = application
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="http")

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        environ = _environ(scope)
        body = await _body(receive)
        if body is None:
            return
        give_body(environ, body)
        if REFUSED in scope:
            environ[REFUSED] = scope[REFUSED]
        answered: asyncio.Future[list[Message]] = asyncio.get_running_loop().create_future()
        self._pool.submit(copy_context().run, self._answer, environ, send, answered)
        for message in await answered:
            await send(message)

    def _answer(self, environ: "WSGIEnvironment", send: Any, answered: "asyncio.Future[list[Message]]") -> None:
        """Answer a request, in a thread: a whole answer goes to the loop at once, one in parts a part at a time."""
        loop = answered.get_loop()
        try:
            with answer_of(self._application, environ) as answer:
                messages = _messages(answer)
                if answer.is_streamed:
                    for message in messages:
                        asyncio.run_coroutine_threadsafe(send(message), loop).result(_PART_SECONDS)
                    messages = iter(())
                loop.call_soon_threadsafe(_settle, answered, list(messages))
        except Exception as error:
            loop.call_soon_threadsafe(_settle, answered, error)


def _messages(answer: Answer) -> Iterator[Message]:
    headers = [(name.lower().encode("latin1"), value.encode("latin1")) for name, value in answer.headers]
    yield {"type": "http.response.start", "status": answer.status, "headers": headers}
    if answer.is_streamed:
        for part in answer.parts:
            yield {"type": "http.response.body", "body": part, "more_body": True}
    yield {"type": "http.response.body", "body": b"" if answer.is_streamed else b"".join(answer.parts)}


def _settle(answered: "asyncio.Future[list[Message]]", outcome: list[Message] | Exception) -> None:
    if answered.done():  # cancelled: the client has gone
        return
    if isinstance(outcome, ConnectionError):
        answered.set_result([])
    elif isinstance(outcome, Exception):
        answered.set_exception(outcome)
    else:
        answered.set_result(outcome)


def _environ(scope: dict[str, Any]) -> "WSGIEnvironment":
    address, port = scope["server"] or ("localhost", 80)
    return environment(
        ((name.decode("latin1"), value.decode("latin1")) for name, value in scope["headers"]),
        REQUEST_METHOD=scope["method"],
        PATH_INFO=scope["path"].encode("utf-8", "surrogateescape").decode("latin1"),
        QUERY_STRING=scope["query_string"].decode("latin1"),
        SERVER_NAME=address,
        SERVER_PORT=str(port),
        SERVER_PROTOCOL=f"HTTP/{scope['http_version']}",
        REMOTE_ADDR=scope["client"][0] if scope["client"] else "",
        **{"wsgi.url_scheme": scope["scheme"]},
    )


async def _body(receive: Any) -> bytes | None:
    """Return the body of a request; `None` if its client has gone."""
    body, more = bytearray(), True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return bytes(body)


application = ProtocolTypeRouter(
    {
        # Django's own ASGI handler is far slower and takes a database connection for every request's thread.
        "http": InThreads(wsgi_application, settings.HTTP_THREADS),
        "websocket": URLRouter(_sockets),
    }
)
