"""The key of a request, for the views whose writes may be repeated."""

from rest_framework.request import Request

from flowplatform.accounts.actors import Actor
from flowplatform.idempotency.services import RequestKey


def request_key(request: Request, actor: Actor) -> RequestKey | None:
    """Return the `Idempotency-Key` of a request; `None` without the header, 422 for one that is empty or too long."""
    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    ids = actor.organization_ids
    owner = str(next(iter(ids))) if ids is not None and len(ids) == 1 else str(actor.id)
    return RequestKey.of(owner=owner, key=key, method=str(request.method), path=request.path, body=request.data)
