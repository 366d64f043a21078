"""The key of a request, for the views whose writes may be repeated."""

from rest_framework.request import Request

from flowplatform.accounts.actors import Actor
from flowplatform.idempotency.services import RequestKey


def request_key(request: Request, actor: Actor, *, has_body: bool = True) -> RequestKey | None:
    """Return the `Idempotency-Key` of a request; `None` without the header, 422 for one that is empty or too long.

    The same request is the one of the same method, path, query and body.
    """
    key = request.META.get("HTTP_IDEMPOTENCY_KEY")
    if key is None:
        return None
    ids = actor.organization_ids
    owner = str(next(iter(ids))) if ids is not None and len(ids) == 1 else str(actor.id)
    query = request.META.get("QUERY_STRING", "")
    path = f"{request.path}?{query}" if query else request.path
    body = request.data if has_body else None
    return RequestKey.of(owner=owner, key=key, method=str(request.method), path=path, body=body)
