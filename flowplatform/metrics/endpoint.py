"""`/metrics`: the figures in Prometheus' text format, for who may read them.

That is who sends `Authorization: Bearer METRICS_TOKEN`. Where no token is set, it is whoever asks from this machine,
without a proxy in between: a proxy on the same machine would make every caller a local one, and it shows by the headers
that it adds. Processes without HTTP, worker and beat, answer on a port of their own (`METRICS_LISTEN`).
"""

import secrets
import threading
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client.exposition import choose_encoder

from flowplatform import env
from flowplatform.metrics import files

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

PATH = "/metrics"
_FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_REAL_IP", "HTTP_VIA")
_REFUSAL = "Not for you: send METRICS_TOKEN as a bearer token, or where none is set, ask from the same machine.\n"
_IDLE_SECONDS = 5


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Answer as a route of the platform."""
    if not may_read(request.META):
        return HttpResponse(_REFUSAL, status=403, content_type="text/plain; charset=utf-8")
    body, content_type = exposition(request.META.get("HTTP_ACCEPT", ""))
    return HttpResponse(body, content_type=content_type)


def exposition(accept: str) -> tuple[bytes, str]:
    """Return the figures of now and their content type."""
    encode, content_type = choose_encoder(accept)
    return encode(files.registry()), content_type


def may_read(environ: Mapping[str, Any]) -> bool:
    """Say whether the figures are for who sent a request with this WSGI environment."""
    if env.METRICS_TOKEN:
        scheme, _, token = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        return scheme.lower() == "bearer" and secrets.compare_digest(token.encode(), env.METRICS_TOKEN.encode())
    return _is_local(environ.get("REMOTE_ADDR", "")) and not any(name in environ for name in _FORWARDED)


def _is_local(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


# --- For processes without HTTP -------------------------------------------------------------------------------------


def application(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
    """Answer as a WSGI application of its own."""
    if environ["PATH_INFO"] != PATH:
        status, body, content_type = "404 Not Found", b"", "text/plain"
    elif not may_read(environ):
        status, body, content_type = "403 Forbidden", _REFUSAL.encode(), "text/plain; charset=utf-8"
    else:
        status, (body, content_type) = "200 OK", exposition(environ.get("HTTP_ACCEPT", ""))
    start_response(status, [("Content-Type", content_type), ("Content-Length", str(len(body)))])
    return [body]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_SECONDS

    def address_string(self) -> str:
        return str(self.client_address[0])  # without asking the name server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of requests."""


def serve() -> None:
    """Answer on `METRICS_LISTEN`, if that is set, in a thread that ends with the process. Raises OSError."""
    if not env.METRICS_LISTEN:
        return
    host, _, port = env.METRICS_LISTEN.rpartition(":")
    server = _Server((host.strip("[]"), int(port)), _Handler)
    server.set_app(application)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
