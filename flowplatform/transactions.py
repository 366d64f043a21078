"""Transactions that try again when PostgreSQL asks for it, and that find out what became of them."""

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, InterfaceError, OperationalError, connection, transaction

from flowplatform.errors import Unavailable, sqlstate_of
from flowplatform.postgresql.outcome import OutcomeUnknown

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS = 3
_TRY_AGAIN = ("40001", "40P01")
_FIND_SECONDS = 1.2  # with the connection's own time limit of two seconds still an answer within 2.5
_FIND_PAUSE = 0.05

# The server's process of the connection that broke may still be at work, or about to begin: it is ended first.
_END = """
    SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity
    WHERE pid = %s AND usename = current_user AND pid <> pg_backend_pid()
"""


def retried(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function`, which is one statement or one transaction; on 40001 and 40P01 again, three times in all.

    Inside somebody else's transaction it runs once: only the outermost transaction can be repeated. The pauses between
    have jitter.
    """

    @wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        for attempt in range(1, ATTEMPTS + 1):
            nested = connection.in_atomic_block
            try:
                return function(*args, **kwargs)
            except DatabaseError as error:
                if nested or attempt == ATTEMPTS or sqlstate_of(error) not in _TRY_AGAIN:
                    raise
                time.sleep(random.uniform(0.005, 0.05) * attempt)
        raise AssertionError("unreachable")

    return run


def retried_transaction(function: Callable[P, R]) -> Callable[P, R]:
    """Run `function` in one transaction, `retried`."""
    return retried(wraps(function)(transaction.atomic(function)))


def certain(write: Callable[[], R], find: Callable[[], R | None]) -> R:
    """Return what `write` returns; if its connection breaks while it commits, what `find` finds of it on another one.

    So a client hears that something was written if it was. Raises `Unavailable` if nothing was, and `OutcomeUnknown`
    if the database stays away for longer than a client should wait.
    """
    try:
        return write()
    except OutcomeUnknown as error:
        found = _found(find, error)
    if found is None:
        raise Unavailable
    return found


def _found(find: Callable[[], R | None], error: OutcomeUnknown) -> R | None:
    """Look for what was written until the database answers; raise the error if that takes too long."""
    lost = getattr(connection, "backend_pid", 0)
    deadline = time.monotonic() + _FIND_SECONDS
    while True:
        connection.close()
        try:
            with connection.cursor() as cursor:
                cursor.execute(_END, [lost])
            return find()
        except (OperationalError, InterfaceError):
            if time.monotonic() > deadline:
                raise error from error.__cause__
            time.sleep(_FIND_PAUSE)
