"""The request that this thread answers, for whoever counts or logs it: its route and its actor, by words that are safe.

Nothing is looked up for it: what is not known yet, such as the actor before the credential was checked, is left out.
"""

from contextvars import ContextVar
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import LazyObject, empty

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))

_current: ContextVar[HttpRequest | None] = ContextVar("current_request", default=None)


def begin(request: HttpRequest) -> None:
    """Have the request be the current one, until the next begins: what is streamed is made after the middleware."""
    _current.set(request)


def current() -> HttpRequest | None:
    """Return the request that is being answered in this thread."""
    return _current.get()


def current_id() -> str | None:
    """Return the id of that request; `None` outside of requests."""
    return getattr(_current.get(), "request_id", None)


def route_of(request: HttpRequest) -> str:
    """Return the pattern of the request's route: of a few, whatever the address is."""
    match = request.resolver_match
    if match is not None:
        return f"/{match.route}"
    return settings.STATIC_URL if request.path_info.startswith(settings.STATIC_URL) else "none"


def method_of(request: HttpRequest) -> str:
    """Return the method; clients may invent others."""
    return request.method if request.method in METHODS else "other"


def actor_of(request: HttpRequest) -> Any:
    """Return the `Actor` or the user who makes the request, as far as that is known by now; else `None`."""
    user = request.__dict__.get("actor") or request.__dict__.get("user")
    if isinstance(user, LazyObject):  # a person: looking at it would ask the database
        user = user.__dict__.get("_wrapped", empty)
        user = None if user is empty else user
    return user if getattr(user, "is_authenticated", False) else None
