"""Credentials of a request: a service token in a header, or a person's session cookie."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, QueryDict
from rest_framework import authentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from flowplatform import tenancy
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.services import actor_of_user, authenticate_token


def presented_token(authorization: str | None, api_key: str | None) -> str | None:
    """Return the token in two headers, "" if they have something else, `None` without them."""
    if authorization is not None:
        scheme, _, token = authorization.partition(" ")
        return token.strip() if scheme.lower() == "bearer" else ""
    return api_key


def token_of(request: HttpRequest | Request) -> str | None:
    """Return the token in the headers of a request, as `presented_token` does."""
    return presented_token(request.META.get("HTTP_AUTHORIZATION"), request.META.get("HTTP_X_API_KEY"))


class ServiceTokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer <token>` or `X-API-Key: <token>`; a wrong one is 401 even with a session beside it.

    `actor_of` finds the actor of a token. Views that find out by themselves, before they answer, whether the token
    still holds give `remembered_actor`.
    """

    def __init__(self, actor_of: Callable[[str], Actor | None] = authenticate_token) -> None:
        self._actor_of = actor_of

    def authenticate(self, request: Request) -> tuple[Actor, None] | None:
        token = token_of(request)
        if token is None:
            return None
        actor = self._actor_of(token)
        if actor is None:
            raise AuthenticationFailed
        tenancy.show(actor.shown)
        return actor, None

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SessionAuthentication(authentication.SessionAuthentication):
    """The session cookie of a signed-in person, with CSRF protection for writes."""

    def authenticate(self, request: Request) -> tuple[Actor, None] | None:
        user = getattr(request._request, "user", None)
        if user is None or not user.is_active:
            return None
        self.enforce_csrf(_WithoutForm(request))  # type: ignore[arg-type]
        actor = actor_of_user(user)
        tenancy.show(actor.shown)
        return actor, None


class _WithoutForm:
    """A request as the CSRF check sees it: with the token in its header, and no form to look for one.

    Looking into a form would parse the body, so an operation that takes none would be 415 for a person's browser.
    """

    POST = QueryDict()

    def __init__(self, request: Request) -> None:
        self._request = request

    def __getattr__(self, name: str) -> Any:
        return getattr(self._request, name)
