"""What both of our ways to a WSGI application share (PEP 3333): the environment of a request, and one call.

Both hand a request whose body has been read (`flowplatform/bodies.py`) to one of a few threads; `flowplatform/rsgi.py`
for granian, `flowplatform/asgi.py` for Daphne.
"""

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment

Headers = list[tuple[str, str]]

_CONSTANT = {
    "SCRIPT_NAME": "",
    "wsgi.version": (1, 0),
    "wsgi.errors": sys.stderr,
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}
_JOINED_BY = {"HTTP_COOKIE": "; "}


def environment(headers: Iterable[tuple[str, str]], **given: Any) -> "WSGIEnvironment":
    """Return what WSGI says about a request without its body; a header that comes several times is joined."""
    environ: dict[str, Any] = {**_CONSTANT, **given}
    seen = set()
    for header, value in headers:
        if "_" in header:  # it would pass for the one with a hyphen, such as Content_Length (CVE-2015-0219)
            continue
        name = _name(header)
        environ[name] = f"{environ[name]}{_JOINED_BY.get(name, ',')}{value}" if name in seen else value
        seen.add(name)
    return environ


@lru_cache(256)  # clients send the same few
def _name(header: str) -> str:
    name = header.upper().replace("-", "_")
    return name if name in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{name}"


def give_body(environ: "WSGIEnvironment", body: bytes) -> None:
    """Put a body into an environment, with its length."""
    environ["wsgi.input"], environ["CONTENT_LENGTH"] = io.BytesIO(body), str(len(body))


@dataclass(frozen=True)
class Answer:
    """What an application says, before its body is asked for."""

    status: int
    headers: Headers
    parts: Iterable[bytes]
    is_streamed: bool


@contextmanager
def answer_of(application: "WSGIApplication", environ: "WSGIEnvironment") -> Iterator[Answer]:
    """Call an application, and close its answer in the end."""
    started: list[Any] = []

    def start_response(status: str, headers: Headers, exc_info: object = None) -> Any:
        started[:] = int(status[:3]), headers

    parts = application(environ, start_response)
    try:
        status, headers = started
        yield Answer(status, headers, parts, getattr(parts, "streaming", False))
    finally:
        getattr(parts, "close", lambda: None)()
