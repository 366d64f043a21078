"""Who is named as the author of what the audit record tells, and where the request came from."""

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from uuid import UUID

from flowplatform.errors import request_id_of


@dataclass(frozen=True, slots=True)
class Origin:
    """The address and the id of a request; a command has neither."""

    address: str | None = None
    request_id: str | None = None


NOWHERE = Origin()


@dataclass(frozen=True, slots=True)
class Author:
    """Somebody, named as `modified_by` names them: `user:alice`, `service:doc-3`; or `command:drop_history`.

    `token` is the prefix of the token that a service account came with.
    """

    name: str = "anonymous"
    id: UUID | None = None
    origin: Origin = NOWHERE
    token: str | None = None


def origin_of(request: Any) -> Origin:
    """Return where a request came from: Django's or DRF's."""
    return Origin(known_address(request.META.get("REMOTE_ADDR")), request_id_of(request))


def person(user: Any, origin: Origin) -> Author:
    """Return a user of ours as an author; anonymous for nobody."""
    name = user.get_username() if user else None
    return Author(f"user:{name}", user.pk, origin) if name else Author(origin=origin)


def requester(request: Any) -> Author:
    """Return the signed-in person of a request."""
    return person(request.user, origin_of(request))


@lru_cache(1024)
def known_address(text: str | None) -> str | None:
    """Return an address that the database takes; `None` for a Unix socket or for none."""
    try:
        return str(ip_address((text or "").partition("%")[0]))
    except ValueError:
        return None
