"""The audit record of what was refused, whoever refused it."""

from typing import Any

from django.contrib.auth import get_user
from django.http import HttpRequest, HttpResponseBase

from flowplatform.accounts.actors import Actor
from flowplatform.accounts.authentication import token_of
from flowplatform.accounts.refusals import (
    Refused,
    author_of,
    note_refused_access,
    note_unknown_id,
    note_wrong_credential,
)
from flowplatform.audit.authors import origin_of
from flowplatform.audit.writing import unless_away
from flowplatform.middleware.people import presents_token
from flowplatform.middleware.types import GetResponse


class AuditMiddleware:
    """Records what was refused, when the answer is there and every transaction over."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        if response.status_code == 401 and presents_token(request):
            note_wrong_credential(origin_of(request), token_of(request) or "", request.path)
        elif response.status_code in (403, 404):
            self._note_refusal(request, response)
        return response

    def _note_refusal(self, request: HttpRequest, response: HttpResponseBase) -> None:
        user = unless_away(lambda: _asker(request))
        actor, author = user if isinstance(user, Actor) else None, author_of(user, origin_of(request))
        route = request.resolver_match.route if request.resolver_match else "no route"
        refused = Refused(str(request.method), request.path, route, _message(response))
        if response.status_code == 403:
            note_refused_access(author, actor, refused)
        elif author.id:
            note_unknown_id(author, actor, refused)


def _asker(request: HttpRequest) -> Any:
    """Return who asked: the actor that an API view found, or the person of the session if anything looked for one."""
    user = vars(request).get("user")
    if type(user) is Actor:  # `isinstance` would load the session of a request that nobody wanted it for
        return user
    session = getattr(request, "session", None)
    return get_user(request) if session is not None and session.accessed else None


def _message(response: HttpResponseBase) -> str:
    """Return what an answer of the API says."""
    data = getattr(response, "data", None)
    return str(data["error"]["message"]) if isinstance(data, dict) and "error" in data else ""
