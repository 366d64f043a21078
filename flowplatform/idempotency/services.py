"""Writing once: replay the first answer to a key, or write and remember the answer in the same transaction."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
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


# For a write that is one statement: whether the key was never used. From then on nobody else has it until the end. Two
# that find this at the same moment cannot both keep it: the second one's statement fails and has written nothing.
IS_NEW = """(
    pg_try_advisory_xact_lock(%(key_lock)s) AND NOT EXISTS (
        SELECT FROM idempotency_idempotencykey WHERE owner = %(key_owner)s AND key = %(key)s
    )
)"""
# A part of such a statement: keep {answer}, or what it can be made of again, of the one row of {table}.
KEEP = """
    INSERT INTO idempotency_idempotencykey (owner, key, digest, answer, expires_at)
    SELECT %(key_owner)s, %(key)s, %(key_digest)s, {answer}, statement_timestamp() + %(key_kept)s FROM {table}
"""
_LOCK = "SELECT pg_try_advisory_xact_lock(%(key_lock)s)"
_KNOWN = """
    SELECT digest, answer FROM idempotency_idempotencykey
    WHERE owner = %(key_owner)s AND key = %(key)s AND expires_at > statement_timestamp()
"""
_KEEP = """
    INSERT INTO idempotency_idempotencykey (owner, key, digest, answer, expires_at)
    VALUES (%(key_owner)s, %(key)s, %(key_digest)s, %(key_answer)s, statement_timestamp() + %(key_kept)s)
    ON CONFLICT (owner, key) DO UPDATE
        SET digest = excluded.digest, answer = excluded.answer, expires_at = excluded.expires_at
"""


@dataclass(frozen=True)
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

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """What the statements about it are given."""
        locked = hashlib.sha256(f"{self.owner}\0{self.key}".encode()).digest()[:8]
        return {
            "key_lock": int.from_bytes(locked, signed=True),
            "key_owner": self.owner,
            "key": self.key,
            "key_digest": self.digest,
            "key_kept": KEPT,
        }


def once(
    request: RequestKey | None,
    write: Callable[[], bytes],
    *,
    recall: Callable[[bytes], bytes] = bytes,
) -> bytes:
    """Return the first answer to the request, or that of `write`, which runs in the caller's transaction.

    `recall` makes the answer of what was kept, where that is another thing.
    Raises 409 while the first one is running and 422 if it had another body. A write that fails uses no key up.
    """
    if request is None:
        return write()
    known = _held(request)
    if known:
        digest, answer = known
        if bytes(digest) != request.digest:
            message = "The key was used with another body"
            raise Unprocessable([{"loc": _HEADER, "msg": message, "type": "idempotency_key_reused"}])
        metrics.idempotent_replays.inc()
        return recall(bytes(answer))
    answer = write()
    with connection.cursor() as cursor:
        cursor.execute(_KEEP, {**request.parameters, "key_answer": answer})
    return answer


@retried_transaction
def answered_once(request: RequestKey | None, answer: Callable[[], Any]) -> bytes:
    """Return, encoded, what `answer` returns when it has written, or what it returned to the first such request."""
    return once(request, lambda: encode(answer()))


def _held(request: RequestKey) -> tuple[bytes, bytes] | None:
    """Hold the key until the end of the transaction; return digest and answer of who had it before.

    Waiting for the first request would only make it two that hang. The look comes after the lock, on the same way to
    the database: in one statement it would see how things stood before.
    """
    with connection.cursor() as lock, connection.cursor() as look, connection.connection.pipeline():
        lock.execute(_LOCK, request.parameters)
        look.execute(_KNOWN, request.parameters)
        (is_free,) = lock.fetchone()
        known: tuple[bytes, bytes] | None = look.fetchone()
    if not is_free:
        raise InFlight("A request with this Idempotency-Key is running; ask again in a moment.")
    return known


def prune_keys() -> int:
    """Remove expired keys; return how many."""
    return IdempotencyKey.objects.filter(expires_at__lt=timezone.now()).delete()[0]
