"""Writing once: replay the first answer to a key, or write and remember the answer in the same transaction."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import orjson
from django.db import connection
from django.utils import timezone

from flowplatform import metrics
from flowplatform.encoding import encode
from flowplatform.errors import InFlight, Unprocessable
from flowplatform.idempotency.models import IdempotencyKey
from flowplatform.transactions import retried_transaction

KEPT = timedelta(hours=24)
MAX_LENGTH = 255
_HEADER = ["header", "Idempotency-Key"]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """The key of a request, whose it is, and the digest of what was asked for."""

    owner: str
    key: str
    digest: bytes

    @classmethod
    def of(cls, *, owner: str, key: str, method: str, path: str, body: Any) -> "RequestKey":
        """Return the key of a request; 422 if it is empty or too long. The order of the body's keys does not count."""
        if not 1 <= len(key) <= MAX_LENGTH:
            message = f"The key has 1 to {MAX_LENGTH} characters"
            raise Unprocessable([{"loc": _HEADER, "msg": message, "type": "string_length"}])
        canonical = orjson.dumps([method, path, body], option=orjson.OPT_SORT_KEYS)
        return cls(owner, key, hashlib.sha256(canonical).digest())


def once(request: RequestKey | None, write: Callable[[], bytes]) -> bytes:
    """Return the first answer to the request, or that of `write`, which runs in the caller's transaction.

    Raises 409 while the first one is running and 422 if it had another body. A write that fails uses no key up.
    """
    if request is None:
        return write()
    _lock(request)
    known = IdempotencyKey.objects.filter(owner=request.owner, key=request.key).first()
    if known and known.expires_at > timezone.now():
        if bytes(known.digest) != request.digest:
            message = "The key was used with another body"
            raise Unprocessable([{"loc": _HEADER, "msg": message, "type": "idempotency_key_reused"}])
        metrics.idempotent_replays.inc()
        return bytes(known.answer)
    answer = write()
    IdempotencyKey.objects.update_or_create(
        owner=request.owner,
        key=request.key,
        defaults={"digest": request.digest, "answer": answer, "expires_at": timezone.now() + KEPT},
    )
    return answer


@retried_transaction
def answered_once(request: RequestKey | None, answer: Callable[[], Any]) -> bytes:
    """Return, encoded, what `answer` returns when it has written, or what it returned to the first such request."""
    return once(request, lambda: encode(answer()))


def _lock(request: RequestKey) -> None:
    """Hold the key until the end of the transaction. Waiting for the first request would only make it two that hang."""
    number = int.from_bytes(hashlib.sha256(f"{request.owner}\0{request.key}".encode()).digest()[:8], signed=True)
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [number])
        (free,) = cursor.fetchone()
    if not free:
        raise InFlight("A request with this Idempotency-Key is running; ask again in a moment.")


def prune_keys() -> int:
    """Remove expired keys; return how many."""
    return IdempotencyKey.objects.filter(expires_at__lt=timezone.now()).delete()[0]
