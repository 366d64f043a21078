"""The live role: the sockets, and the whole HTTP side too, so that one Daphne on one port is a complete server."""

import os
from typing import Any, cast

from flowplatform import role

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")
role.claim("live")

from flowplatform.wsgi import READ_BODY, application as wsgi_application  # noqa: E402  isort: skip

from a2wsgi import WSGIMiddleware  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.urls import re_path  # noqa: E402

from flowplatform.parsers import MAX_BODY_BYTES  # noqa: E402
from notifications.consumers import FlowConsumer, OrganizationConsumer, UnknownConsumer  # noqa: E402

_sockets: list[Any] = [
    re_path(r"^ws/flows/(?P<id>[^/]+)/?$", FlowConsumer.as_asgi()),
    re_path(r"^ws/organizations/(?P<id>[^/]+)/?$", OrganizationConsumer.as_asgi()),
    re_path(r"", UnknownConsumer.as_asgi()),
]


class ReadBody:
    """Reads a request's body on the event loop, where it lies ready: the handler's thread would ask the loop for it.

    At most one byte more than is allowed is kept; the parser refuses the body by that byte.
    """

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        body, more = bytearray(), True
        while more and len(body) <= MAX_BODY_BYTES:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message.get("body", b"")
            more = message.get("more_body", False)
        await self._app({**scope, READ_BODY: bytes(body[: MAX_BODY_BYTES + 1])}, receive, send)


application = ProtocolTypeRouter(
    {
        # Django's own ASGI handler is far slower and takes a database connection for every request's thread.
        "http": ReadBody(WSGIMiddleware(cast(Any, wsgi_application), workers=settings.HTTP_THREADS)),
        "websocket": URLRouter(_sockets),
    }
)
