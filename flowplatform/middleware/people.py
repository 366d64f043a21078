"""Sessions, for those who have one: a program with a token passes them by."""

from typing import Any

from django.contrib.auth import middleware as auth
from django.contrib.messages import middleware as messages
from django.contrib.sessions import middleware as sessions
from django.http import HttpRequest
from django.utils.deprecation import MiddlewareMixin


class _OfPeople(MiddlewareMixin):
    """Leaves API requests with a token alone: a token is nobody's session, whether it is valid or not."""

    def __call__(self, request: HttpRequest) -> Any:
        return self.get_response(request) if presents_token(request) else super().__call__(request)


class SessionMiddleware(_OfPeople, sessions.SessionMiddleware):
    """Django's, for people."""


class AuthenticationMiddleware(_OfPeople, auth.AuthenticationMiddleware):
    """Django's, for people."""


class MessageMiddleware(_OfPeople, messages.MessageMiddleware):
    """Django's, for people."""


def presents_token(request: HttpRequest) -> bool:
    """Say whether this is an API request that a credential in a header decides about."""
    has_header = "HTTP_AUTHORIZATION" in request.META or "HTTP_X_API_KEY" in request.META
    return has_header and request.path_info.startswith("/api/")
