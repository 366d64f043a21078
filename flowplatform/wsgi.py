"""The web role: Django's WSGI handler, behind gunicorn when it stands alone and behind Daphne on a single port."""

import io
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flowplatform import role

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")
role.claim("web")

from django.core.wsgi import get_wsgi_application  # noqa: E402

from flowplatform.parsers import MAX_BODY_BYTES  # noqa: E402

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

_django = get_wsgi_application()


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Serve one request. A chunked body gets the length that Django needs to see it (pitfall 15)."""
    if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower():
        _measure_body(environ)
    return _django(environ, start_response)


def _measure_body(environ: dict[str, Any]) -> None:
    """Read a chunked body, at most one byte more than is allowed: the parser refuses it by that byte."""
    body = environ["wsgi.input"].read(MAX_BODY_BYTES + 1)
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
