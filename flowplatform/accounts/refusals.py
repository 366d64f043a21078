"""What the audit record says of requests that were refused: wrong credentials, missing rights, ids that are not there.

Each is counted per source, so that a flood of them leaves few rows (`flowplatform/audit/floods.py`).
"""

import re
from typing import Any, NamedTuple
from uuid import UUID

from django.utils import timezone

from flowplatform import tenancy
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import ServiceToken
from flowplatform.audit.authors import Author, Origin, person
from flowplatform.audit.floods import Flood
from flowplatform.audit.vocabulary import Action, Outcome
from flowplatform.audit.writing import Entry, Subject, record_alone, storable, unless_away

# One id that is not there is a worker behind its time. Ten within a minute are worth a row: somebody may be trying ids.
# Whether they are another organization's is not asked: the answer took longer then, and would tell.
UNKNOWN_IDS = 10

_LONG = re.compile(r"[^/]{41,}")

_credentials, _accesses, _unknown = Flood(), Flood(), Flood(begins_at=UNKNOWN_IDS)


class Refused(NamedTuple):
    """A request that was refused: what was asked for, by the name of its route, and what the answer said."""

    method: str
    path: str
    route: str
    reason: str = ""


def note_wrong_credential(origin: Origin, raw: str, path: str) -> None:
    """Record that a credential in a header was refused. A token of ours is named by its prefix; no text is kept."""
    if count := _credentials.count(origin.address):
        token = _token_of(raw)
        account = token.service_account if token else None
        subject = Subject("service_token", token.prefix if token else "", account.name if account else "unknown token")
        details = {**count, "path": _shown(path), "reason": _reason(raw, token)}
        organization_id = account.organization_id if account else None
        author = Author(origin=origin)
        entry = Entry(Action.CREDENTIAL_REFUSED, author, Outcome.REFUSED, organization_id, subject, details)
        record_alone(entry)


def note_refused_access(author: Author, actor: Actor | None, refused: Refused) -> None:
    """Record that somebody known, or nobody, asked for what they may not do."""
    if count := _accesses.count((author.name, author.origin.address, refused.method, refused.route)):
        _record(Action.ACCESS_REFUSED, author, actor, refused, count)


def note_unknown_id(author: Author, actor: Actor | None, refused: Refused) -> None:
    """Record that somebody known asks for many things that do not exist for them."""
    if count := _unknown.count((author.name, author.origin.address)):
        _record(Action.ACCESS_UNKNOWN, author, actor, refused, count)


def _record(action: Action, author: Author, actor: Actor | None, refused: Refused, count: dict[str, Any]) -> None:
    details = {**count, "method": refused.method, "path": _shown(refused.path)}
    if refused.reason:
        details["reason"] = storable(refused.reason)
    subject = Subject("route", text=f"{refused.method} {refused.route}")
    record_alone(Entry(action, author, Outcome.REFUSED, _only_organization(actor), subject, details))


def _shown(path: str) -> str:
    """Return a path without what is longer than our ids: the admin's id of a token has its hash, another may be one."""
    return storable(_LONG.sub(lambda segment: f"{segment[0][:8]}…", path))


def _only_organization(actor: Actor | None) -> UUID | None:
    ids = actor.organization_ids if actor else None
    return next(iter(ids)) if ids is not None and len(ids) == 1 else None


def _token_of(raw: str) -> ServiceToken | None:
    prefix, _, secret = raw.partition(".")
    if not secret or len(prefix) != 8 or not prefix.isascii() or not prefix.isalnum():
        return None
    tokens = ServiceToken.objects.select_related("service_account__organization")
    with tenancy.showing(tenancy.EVERYBODY):  # whose it is shows then
        return unless_away(tokens.filter(prefix=prefix).first)


def _reason(raw: str, token: ServiceToken | None) -> str:
    if token is None:
        return "unknown"
    if not ServiceToken.objects.key_generator.verify(raw, token.hashed_key):
        return "wrong secret"
    if token.revoked:
        return "revoked"
    return "expired" if token.expiry_date and token.expiry_date <= timezone.now() else "not enough"


def author_of(user: Any, origin: Origin) -> Author:
    """Return who asked: an actor of the API, a signed-in person, or nobody."""
    return user.as_author(origin) if isinstance(user, Actor) else person(user, origin)
