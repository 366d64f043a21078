"""Transactions that try again when PostgreSQL asks for it: serialization failures and deadlocks."""

import random
import time
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from django.db import DatabaseError, connection, transaction

from flowplatform.errors import sqlstate_of

P = ParamSpec("P")
R = TypeVar("R")

ATTEMPTS = 3
_TRY_AGAIN = ("40001", "40P01")


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
