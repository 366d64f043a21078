"""The course of one call: attempts, the pauses between them, and when to give up. No IO here.

Full jitter, as in https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/.
"""

import math
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from flowplatform_client.calls import Answer, Call, Lost, Outcome, refusal, retry_after
from flowplatform_client.errors import ConnectionFailedError

T = TypeVar("T")

ATTEMPTS = 10
TOTAL_SECONDS = 30.0
SERVER_ERROR_ATTEMPTS = 5
FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
LONGEST_RETRY_AFTER_SECONDS = 60.0  # the limits of the server count by the minute at most

OnWait = Callable[[str], None]


@dataclass(frozen=True)
class RetryPolicy:
    """How often and for how long a call is tried.

    A call ends with its last error after `attempts`, or when the next attempt could not begin within `total_seconds`
    of the first; at the latest when 500 was answered `server_error_attempts` times: waiting does not mend a bug.
    """

    attempts: float = ATTEMPTS
    total_seconds: float = TOTAL_SECONDS
    server_error_attempts: int = SERVER_ERROR_ATTEMPTS
    first_pause_seconds: float = FIRST_PAUSE_SECONDS
    longest_pause_seconds: float = LONGEST_PAUSE_SECONDS

    @classmethod
    def never(cls) -> "RetryPolicy":
        """Return the policy of one attempt."""
        return cls(attempts=1)

    @classmethod
    def for_ever(cls) -> "RetryPolicy":
        """Return the policy that waits for a server that is away, however long that takes."""
        return cls(attempts=math.inf, total_seconds=math.inf)

    def pause(self, attempt: int, asked_for: float) -> float:
        """Return how many seconds to wait after attempt `attempt` (from 0): never less than asked for."""
        ceiling = min(self.longest_pause_seconds, self.first_pause_seconds * 2 ** min(attempt, 32))
        return min(asked_for, LONGEST_RETRY_AFTER_SECONDS) + random.uniform(0, ceiling)


@dataclass(frozen=True)
class Attempt:
    """Send the request, and take no longer than until `deadline` on the monotonic clock."""

    deadline: float


@dataclass(frozen=True)
class Pause:
    """Wait."""

    seconds: float


Course = Generator[Attempt | Pause, Outcome | None, T]


def course(call: Call[T], url: str, policy: RetryPolicy, on_wait: OnWait) -> Course[T]:
    """Say what to do next until the call has come to its end; whoever follows sends back the outcome of each attempt.

    Returns the result of the call. Raises `ApiError` or `ConnectionFailedError`. `on_wait` is told why, in one
    sentence, before the first pause.
    """
    call.check_size(url)
    deadline = time.monotonic() + policy.total_seconds
    attempts = server_errors = 0
    while True:
        outcome = yield Attempt(deadline)
        assert outcome is not None, "an attempt has an outcome"
        attempts += 1
        server_errors += _is_bug(outcome)
        pause = policy.pause(attempts - 1, _asked_for(outcome))
        is_over = attempts >= policy.attempts or time.monotonic() + pause > deadline
        if is_over or server_errors >= policy.server_error_attempts or not _may_pass(outcome):
            return _end(call, url, outcome)
        if attempts == 1:
            on_wait(_reason(call, url, outcome))
        yield Pause(pause)


def _may_pass(outcome: Outcome) -> bool:
    """Say whether the same request may fare better in a moment."""
    if isinstance(outcome, Lost):
        return True
    match outcome.status:
        case HTTPStatus.REQUEST_TIMEOUT | HTTPStatus.TOO_MANY_REQUESTS:
            return True
        case HTTPStatus.CONFLICT:  # our own earlier attempt is still at work; all others are decided
            return retry_after(outcome) is not None
        case status:
            return status >= HTTPStatus.INTERNAL_SERVER_ERROR


def _is_bug(outcome: Outcome) -> bool:
    return isinstance(outcome, Answer) and outcome.status == HTTPStatus.INTERNAL_SERVER_ERROR


def _asked_for(outcome: Outcome) -> float:
    return (retry_after(outcome) or 0.0) if isinstance(outcome, Answer) else 0.0


def _end(call: Call[T], url: str, outcome: Outcome) -> T:
    """Return the result, or raise what the last attempt came to."""
    if isinstance(outcome, Answer):
        return call.result(outcome, url)
    text = f"{call.method} {url} got no answer: {outcome.reason}"
    raise ConnectionFailedError(text, may_have_arrived=outcome.was_sent)


def _reason(call: Call[T], url: str, outcome: Outcome) -> str:
    """Say why there is a pause."""
    if isinstance(outcome, Lost):
        return outcome.reason
    return f"{outcome.status}, {refusal(outcome, call.method, url).message}"
