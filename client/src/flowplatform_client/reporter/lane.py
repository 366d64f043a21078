"""Sending what is in one queue, in order: one request at a time, each until it is answered for certain."""

import contextlib
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flowplatform_client.calls import Answer, Call, path
from flowplatform_client.endpoints import list_task_executions
from flowplatform_client.errors import (
    ApiError,
    ConflictError,
    FlowPlatformError,
    ForbiddenError,
    NotFoundError,
    PayloadTooLargeError,
    UnauthenticatedError,
    UnprocessableError,
)
from flowplatform_client.models import TaskExecution, moment
from flowplatform_client.pages import Page
from flowplatform_client.reporter.queues import Batch, Queue
from flowplatform_client.reporter.records import DOCUMENTS, AttemptRecord, ExecutionRecord, Record, StatusRecord
from flowplatform_client.reporter.wire import Driver
from flowplatform_client.retries import LONGEST_RETRY_AFTER_SECONDS, RetryPolicy

LONGEST_PAUSE_SECONDS = 5.0
PAUSES = RetryPolicy(first_pause_seconds=0.2, longest_pause_seconds=LONGEST_PAUSE_SECONDS)
REFUSED_TOKEN_SECONDS = 30.0  # the server counts wrong tokens and looks at none of them for a while
REMINDER_SECONDS = 60.0  # between two lines of the log about a server that stays away

_log = logging.getLogger("flowplatform_client.reporter")


@dataclass(frozen=True)
class _Part:
    """What is left of a batch to send in one request: the records at `places`.

    The key of a part follows from what it is, so a part that was written is not written again after a restart, when
    the whole batch is refused once more.
    """

    batch: Batch
    places: tuple[int, ...]
    without_documents: bool = False

    @property
    def records(self) -> list[Record]:
        return [self.batch.records[place] for place in self.places]

    @property
    def key(self) -> str:
        if len(self.places) == len(self.batch.records):
            return self.batch.key
        return f"{self.batch.key}-{hashlib.sha256(repr(self.places).encode()).hexdigest()[:16]}"

    def of(self, places: Sequence[int]) -> "_Part":
        return replace(self, places=tuple(places))


class Lane:
    """A queue on its way to the platform.

    A request is repeated until the server has done it or refuses it for good; who else waits behind it stays in order.
    `is_given_up` is set where the token may be the wrong one for a queue of somebody else.
    """

    def __init__(
        self,
        queue: Queue,
        execution_id: str,
        driver: Driver,
        *,
        settle: Callable[[Batch], None] | None = None,
        is_leftover: bool = False,
        is_of_our_token: bool = True,
    ) -> None:
        self.queue = queue
        self.is_given_up = False
        self.has_wrong_token = False  # as far as the server said last
        self.failures = 0  # in a row
        self.due_at = 0.0  # on the monotonic clock
        self._not_before = 0.0  # by what the server has asked for
        self._execution_id = execution_id
        self._driver = driver
        self._settle = settle or queue.settle
        self._is_leftover = is_leftover
        self._is_of_our_token = is_of_our_token
        self._parts: deque[_Part] = deque()
        self._next: tuple[_Part, Call[None]] | None = None  # made while the request before it was on its way
        self._reminded_at = -REMINDER_SECONDS

    @property
    def is_due(self) -> bool:
        """Whether the pause after a failure is over."""
        return time.monotonic() >= self.due_at

    @property
    def is_busy(self) -> bool:
        """Whether a batch has been begun and is not settled."""
        return bool(self._parts)

    def step(self) -> bool:
        """Send a request, whatever comes of it; return false if no batch is closed."""
        call = None
        if not self._parts:
            part, call = self._next or (self._whole(self.queue.peek()), None)
            self._next = None
            if part is None:
                return False
            self._parts.append(part)
        part = self._parts[0]
        try:
            if self._is_leftover and self._is_overtaken(part):
                self._done_with(part)
            else:
                self._driver.send(call or self._call_of(part), meanwhile=self._make_next)
                self._went_well(part)
        except FlowPlatformError as error:
            self._failed(part, error)
        if not self._parts:
            self._settle(part.batch)
            for record in part.batch.records:
                if isinstance(record, AttemptRecord) and record.is_last:
                    self.queue.forget(record.run)
        return True

    def hurry(self) -> None:
        """Try again at once, unless the server has said when."""
        self.due_at = self._not_before

    # --- What is sent ----------------------------------------------------------------------------------------------

    def _whole(self, batch: Batch | None) -> _Part | None:
        return None if batch is None else _Part(batch, tuple(range(len(batch.records))))

    def _make_next(self) -> None:
        """Make the request of the next batch of statuses, while the server is at work on the one before."""
        if self._next is None and len(self._parts) == 1:
            with contextlib.suppress(OSError):  # it will be told when it is read again
                part = self._whole(self.queue.peek_after(self._parts[0].batch))
                if part is not None and isinstance(part.records[0], StatusRecord):
                    call = self._call_of(part)
                    _ = call.content
                    self._next = part, call

    def _call_of(self, part: _Part) -> Call[None]:
        match part.records:
            case [ExecutionRecord(status, execution_id)]:
                return self._call("PATCH", "status", part.key, execution_id, query={"status": status})
            case [AttemptRecord() as attempt]:
                return self._attempt_call(attempt, part.key, without_documents=part.without_documents)
            case statuses:
                updates = [each for each in statuses if isinstance(each, StatusRecord)]
                body = {"statuses": [{"task_name": each.task, "status": each.status} for each in updates]}
                return self._call("POST", "task-status", part.key, body=body)

    def _call(self, method: str, what: str, key: str, execution_id: str | None = None, **rest: Any) -> Call[None]:
        where = path("flow-executions", execution_id or self._execution_id, what)
        return Call(method=method, path=where, read=_is_an_answer, key=key, **rest)

    def _attempt_call(self, attempt: AttemptRecord, key: str, *, without_documents: bool) -> Call[None]:
        says = {name: value for name, value in attempt.says.items() if not (without_documents and name in DOCUMENTS)}
        body = {
            "flow_execution_id": attempt.execution_id or self._execution_id,
            "task_name": attempt.task,
            "task_execution_idx": self._number(attempt),
            **says,
        }
        return Call(method="POST", path=path("task-executions"), read=_is_an_answer, body=body, key=key)

    def _is_overtaken(self, part: _Part) -> bool:
        """Say whether an attempt that an ended process told of has ended by now, as another process has told."""
        match part.records:
            case [AttemptRecord(number=int(number), says={"started_at": str(begun)}) as attempt] if not attempt.is_last:
                execution_id = attempt.execution_id or self._execution_id
                call = list_task_executions(execution_id, task_name=attempt.task, task_execution_idx=number)
                ends = [row.completed_at for row in self._driver.send(call).rows]
                return any(end is not None and end >= moment(begun) for end in ends)
        return False

    def _number(self, attempt: AttemptRecord) -> int:
        """Return which attempt this is: the one that was queued for a worker, or the next one.

        It is remembered before anything is sent under it, so that a restart makes no second attempt of it.
        """
        known = self.queue.number_of(attempt.run) if attempt.number is None else attempt.number
        if known is not None:
            return known
        execution_id = attempt.execution_id or self._execution_id
        page: Page[TaskExecution] = self._driver.send(list_task_executions(execution_id, task_name=attempt.task))
        newest = max(page.rows, key=lambda row: row.task_execution_idx, default=None)
        number = 0 if newest is None else newest.task_execution_idx + (newest.processing_status != "queued")
        self.queue.remember(attempt.run, number)
        return number

    # --- What comes of it ------------------------------------------------------------------------------------------

    def _went_well(self, part: _Part) -> None:
        if self.failures and self._reminded_at > 0:
            _log.info("the server takes reports of execution %s again", self._execution_id)
        self._done_with(part)

    def _done_with(self, part: _Part) -> None:
        self._parts.popleft()
        self.failures, self.has_wrong_token, self._reminded_at = 0, False, -REMINDER_SECONDS

    def _failed(self, part: _Part, error: FlowPlatformError) -> None:
        if isinstance(error, ApiError) and _is_for_good(error, part):
            self._refused(part, error)
            return
        self.failures += 1
        self.has_wrong_token = isinstance(error, UnauthenticatedError)
        asked_for = error.retry_after or 0.0 if isinstance(error, ApiError) else 0.0
        if self.has_wrong_token:
            asked_for = REFUSED_TOKEN_SECONDS
        now = time.monotonic()
        self._not_before = now + min(asked_for, LONGEST_RETRY_AFTER_SECONDS)
        self.due_at = now + PAUSES.pause(self.failures - 1, asked_for)
        self._remind(error)

    def _remind(self, error: FlowPlatformError) -> None:
        if time.monotonic() < self._reminded_at + REMINDER_SECONDS:
            return
        self._reminded_at = time.monotonic()
        _log.warning("reports of execution %s wait and are tried again: %s", self._execution_id, error)

    def _refused(self, part: _Part, error: ApiError) -> None:
        """Leave out what the server refuses for good, and go on with the rest."""
        if isinstance(error, ForbiddenError | NotFoundError):
            if self._is_of_our_token:
                self._leave_out(part, part.places, error)
            else:
                self.is_given_up = True
        elif len(part.places) > 1:
            self._split(part, error)
        elif _has_documents(part) and isinstance(error, PayloadTooLargeError | UnprocessableError):
            _log.error("input, output and error of an attempt were left out: %s", error)
            self._parts[0] = replace(part, without_documents=True)
        else:
            self._leave_out(part, part.places, error)

    def _split(self, part: _Part, error: ApiError) -> None:
        """Go on without the records that the server names, or with halves where it names none."""
        named = {place for place in _places(error) if 0 <= place < len(part.places)}
        if named:
            self._leave_out(part, [part.places[place] for place in sorted(named)], error)
            rest = [each for place, each in enumerate(part.places) if place not in named]
            pieces = [rest] if rest else []
        else:
            self._parts.popleft()
            middle = len(part.places) // 2
            pieces = [list(part.places[:middle]), list(part.places[middle:])]
        self._parts.extendleft(part.of(piece) for piece in reversed(pieces))

    def _leave_out(self, part: _Part, places: Sequence[int], error: ApiError) -> None:
        told = ", ".join(_told(part.batch.records[place]) for place in places[:5])
        more = f" and {len(places) - 5} more" if len(places) > 5 else ""
        _log.error("refused for good and left out: %s%s of execution %s: %s", told, more, self._execution_id, error)
        self._done_with(part)


def _is_an_answer(answer: Answer) -> None:
    """Raise `ValueError` for what is no answer of the API: a page of something in between, for example."""
    if answer.content[:1] not in (b"[", b"{"):
        raise ValueError


def _is_for_good(error: ApiError, part: _Part) -> bool:
    """Say whether the same request would be refused again: by Flow Platform itself, for what is in it."""
    if isinstance(error, PayloadTooLargeError):  # a proxy may say so too
        return True
    if isinstance(error, UnauthenticatedError) or not error.code:
        return False
    if isinstance(error, ConflictError):
        return not isinstance(part.records[0], StatusRecord)  # of a batch our earlier attempt is still running
    return 400 <= error.status < 500 and error.status not in (408, 429)


def _places(error: ApiError) -> list[int]:
    """Return which items of a batch the server complains about, as 400 and 422 tell it."""
    found = []
    for problem in error.details if isinstance(error.details, Sequence) else ():
        match problem:
            case {"index": int(place)} | {"loc": ["body", "statuses", int(place), *_]}:
                found.append(place)
    return found


def _has_documents(part: _Part) -> bool:
    [record] = part.records
    says: Mapping[str, Any] = record.says if isinstance(record, AttemptRecord) else {}
    return not part.without_documents and any(says.get(name) is not None for name in DOCUMENTS)


def _told(record: Record) -> str:
    match record:
        case StatusRecord(task, status):
            return f"{status!r} of task {task!r}"
        case ExecutionRecord(status):
            return f"the status {status!r}"
        case attempt:
            return f"an attempt of task {attempt.task!r}"
