"""The web role: Django's WSGI handler, behind granian when it stands alone and behind Daphne on a single port."""

import gc
import io
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from flowplatform import role

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")
role.claim("web")

from django.core.wsgi import get_wsgi_application  # noqa: E402

from flowplatform import telemetry  # noqa: E402
from flowplatform.parsers import MAX_BODY_BYTES  # noqa: E402

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

READ_BODY = "flowplatform.body"  # in the scope: the body, where the ASGI side has read it already

telemetry.start()  # before Django loads its middleware
_django = get_wsgi_application()

# What is loaded by now stays. The collector, which would look at it again and again, leaves it out from here on, and
# comes every tenth request instead of several times in each.
gc.freeze()
gc.set_threshold(10_000)


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Serve one request, with a body that Django can see: of a known length, chunked or not."""
    body: bytes | None = environ.get("asgi.scope", {}).get(READ_BODY)
    if body is None and "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        # At most one byte more than is allowed: the parser refuses the body by that byte.
        body = environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
    if body:
        environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))
    return _django(environ, start_response)
