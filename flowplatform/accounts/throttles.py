"""Who is charged for a request or a socket: a token or a person, its organization, and the address it comes from.

Whoever has no valid credential is charged by address alone, and strictly. What fails is charged twice, by its address
and by the token that it claims to be: when the second is spent the token is not even looked at, so nobody finds out by
trying, while other tokens from the same address go on to work.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from flowplatform.accounts.actors import Actor
from flowplatform.accounts.authentication import presented_token
from flowplatform.accounts.services import authenticate_token
from flowplatform.throttling.addresses import address_of, counted_address
from flowplatform.throttling.allowances import Spent, named, spend
from flowplatform.throttling.requests import charge, is_refused

_PREFIX = re.compile("[A-Za-z0-9]{8}")


class ActorThrottle(BaseThrottle):
    """Charges an authenticated request. Those without a valid credential are the middleware's."""

    _spent: Spent | None = None

    def allow_request(self, request: Request, view: Any) -> bool:
        if isinstance(request.user, Actor):
            self._spent = charge_actor(request._request, request.user)
        return not is_refused(self._spent)

    def wait(self) -> float | None:
        return self._spent.reset if self._spent else None


def charge_actor(request: HttpRequest, actor: Actor) -> Spent | None:
    """Charge the token, the organization and the address, up to the first that has nothing left; return the last.

    A person and their address are charged already, on pages as well. Who acts in several organizations, or in all, is
    not charged to any of them.
    """
    spent = None
    for name, key in _accounts_of(request, actor):
        spent = charge(request, name, key)
        if is_refused(spent):
            break
    return spent


def _accounts_of(request: HttpRequest, actor: Actor) -> list[tuple[str, str]]:
    accounts = []
    if actor.token_id is not None:
        accounts.append(("token", token_key(actor.token_id)))
    if actor.organization_ids is not None and len(actor.organization_ids) == 1:
        accounts.append(("organization", next(iter(actor.organization_ids)).hex))
    if actor.token_id is not None:
        accounts.append(("address", address_of(request.META)))
    return accounts


def token_key(token_id: str) -> str:
    """Return what a token is called outside of the database: its prefix, without the hash that its id ends with."""
    return token_id.partition(".")[0]


@dataclass(frozen=True, slots=True)
class Attempt:
    """A token that somebody presents, valid or not, and the address it comes from."""

    address: str
    token: str

    @property
    def guess(self) -> str:
        """What the token claims to be, at this address. Claims without the form of a token are all the same."""
        prefix = token_key(self.token)
        return f"{self.address}/{prefix if _PREFIX.fullmatch(prefix) else ''}"

    def refusal(self) -> Spent | None:
        """Return why the token is not looked at: too many like it have failed; `None` if it may be."""
        failures = named("failures")
        return failures.nothing_left() if failures and failures.is_spent(self.guess) else None

    def failed(self) -> Iterator[Spent | None]:
        """Charge a failure to the claim and to the address, and yield what each has left."""
        yield spend("failures", self.guess)
        yield spend("failures", self.address)


class TooMuch(Exception):  # noqa: N818  (not an error: a reason to close)
    """Nothing is left of an allowance."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A socket that is being opened: what it is charged before it is known whose it is, and after that."""

    address: str
    token: str | None

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> "Opening":
        """Return that of an ASGI scope."""
        host, _ = scope.get("client") or ("", 0)
        headers = {name: value.decode("latin1") for name, value in scope["headers"]}
        return cls(counted_address(host), presented_token(headers.get(b"authorization"), headers.get(b"x-api-key")))

    def begin(self) -> None:
        """Charge the address. Raises TooMuch, also for a token that is not looked at any more."""
        if self.token is not None and Attempt(self.address, self.token).refusal():
            raise TooMuch
        _demand(spend("sockets_address", self.address))

    def end(self, actor: Actor | None) -> None:
        """Charge whoever it turned out to be, or a failure. Raises TooMuch."""
        if actor is not None:
            _demand(spend("sockets", actor.id.hex))
        elif self.token is None or authenticate_token(self.token):  # valid, but not for reading: nobody's guess
            _demand(spend("anonymous", self.address))
        else:
            _demand(*Attempt(self.address, self.token).failed())


def _demand(*spent: Spent | None) -> None:
    if any(map(is_refused, spent)):
        raise TooMuch
