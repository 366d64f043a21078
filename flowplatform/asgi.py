"""The live role: the sockets, and the whole HTTP side too, so that one Daphne on one port is a complete server."""

import os
from typing import Any, cast

from flowplatform import role

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")
role.claim("live")

from flowplatform.wsgi import application as wsgi_application  # noqa: E402  isort: skip

from a2wsgi import WSGIMiddleware  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.urls import re_path  # noqa: E402

from notifications.consumers import FlowConsumer, UnknownConsumer  # noqa: E402

_sockets: list[Any] = [
    re_path(r"^ws/flows/(?P<flow_id>[^/]+)/?$", FlowConsumer.as_asgi()),
    re_path(r"", UnknownConsumer.as_asgi()),
]

application = ProtocolTypeRouter(
    {
        # Django's own ASGI handler has a tenth of the throughput and a connection for every request's thread.
        "http": WSGIMiddleware(cast(Any, wsgi_application), workers=settings.HTTP_THREADS),
        "websocket": URLRouter(_sockets),
    }
)
