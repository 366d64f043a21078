"""Credentials of a WebSocket: the same as of a request, read from the ASGI scope."""

from collections.abc import Mapping
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth import get_user
from django.http.request import validate_host

from flowplatform.accounts.actors import Actor
from flowplatform.accounts.authentication import presented_token
from flowplatform.accounts.models import Scope, User
from flowplatform.accounts.refusals import note_wrong_credential
from flowplatform.accounts.services import actor_of_user, authenticate_token
from flowplatform.accounts.standing import Credential, SessionCredential, TokenCredential
from flowplatform.audit.authors import Origin, known_address

_Headers = Mapping[str, str]


def visitor_of_scope(scope: Mapping[str, Any]) -> tuple[Actor, Credential] | None:
    """Return who opens the socket, and with what; `None` without a valid credential that may read.

    Queries the database.
    """
    headers = {name.decode("latin1").title(): value.decode("latin1") for name, value in scope["headers"]}
    token = presented_token(headers.get("Authorization"), headers.get("X-Api-Key"))
    if token is not None:
        actor = authenticate_token(token)
        if actor and actor.token_id is not None and actor.has_scope(Scope.READ):
            return actor, TokenCredential(actor.token_id)
        note_wrong_credential(_origin_of(scope), token, scope["path"])
        return None
    return _visitor_of_session(headers) if _comes_from_us(headers) else None


def _origin_of(scope: Mapping[str, Any]) -> Origin:
    address, *_ = scope.get("client") or (None,)
    return Origin(known_address(address))


def _visitor_of_session(headers: _Headers) -> tuple[Actor, Credential] | None:
    try:
        morsel = SimpleCookie(headers.get("Cookie", "")).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return None
    if morsel is None:
        return None
    store = import_module(settings.SESSION_ENGINE).SessionStore(morsel.value)
    user = get_user(SimpleNamespace(session=store))  # type: ignore[arg-type]
    if not isinstance(user, User) or not user.is_active:
        return None
    return actor_of_user(user), SessionCredential.of(store.session_key, user)


def _comes_from_us(headers: _Headers) -> bool:
    """Refuse a cookie sent by another site's page: browsers always name the page's origin."""
    origin = headers.get("Origin")
    if origin is None or origin in settings.CSRF_TRUSTED_ORIGINS:
        return True
    host = headers.get("Host", "")
    name = host.rpartition(":")[0] if ":" in host.rpartition("]")[2] else host
    return urlsplit(origin).netloc == host and validate_host(name.lower(), settings.ALLOWED_HOSTS)
