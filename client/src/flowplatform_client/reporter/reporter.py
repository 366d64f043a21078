"""`Reporter`: says how tasks go, and neither slows nor breaks the work it reports."""

import atexit
import contextlib
import json
import logging
import math
import os
import sys
import threading
import time
import weakref
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any
from uuid import UUID

from flowplatform_client.calls import Id
from flowplatform_client.client import TIMEOUT_SECONDS, AsyncFlowPlatform, FlowPlatform
from flowplatform_client.endpoints import UNSET, _Unset
from flowplatform_client.reporter.delivery import Delivery, deliveries
from flowplatform_client.reporter.folder import SpoolFolder, default_folder
from flowplatform_client.reporter.outbox import Outbox
from flowplatform_client.reporter.queues import MemoryQueue, Queue
from flowplatform_client.reporter.records import DOCUMENTS, AttemptRecord, attempt_line, execution_line, status_line
from flowplatform_client.reporter.tasks import Task

SPOOL_BYTES = 256 * 1024 * 1024
MEMORY_BYTES = 16 * 1024 * 1024
CLOSE_SECONDS = 5.0
MOST_ATTEMPT_BYTES = 1_000_000  # the API takes bodies of a mebibyte
START_AGAIN_SECONDS = 1.0  # after the system had no thread for us
ANY_EXECUTION = str(UUID(int=0))  # what a queue of several is named after

_WITHOUT_DOCUMENTS = 10_000  # bytes that are left for the rest of an attempt
_log = logging.getLogger("flowplatform_client.reporter")


class Reporter:
    """Reports an execution, from any number of threads, and from processes that are forked meanwhile.

    `status`, `execution_status` and what `task` does return at once and raise nothing: what is told is written to the
    spool, and a thread sends it, in order, up to 100 statuses at a time. Every status arrives once, also if the
    platform is away for a while or this process is killed: the next reporter of the same folder sends what is left.

    `spool` is the folder, for any number of executions and processes of this machine: by default FLOWPLATFORM_SPOOL, or
    `~/.local/state/flowplatform/spool`. Without one (`None`), or where none can be made, there is a queue in memory of
    `memory_bytes`. `spool_bytes` bounds the folder. `timeout` is in seconds, for each silence of the server.

    Without an `execution_id` it is for any number of them: attempts and statuses of executions name theirs.

    Raises `ValueError` for an id that is none.
    """

    def __init__(
        self,
        platform: FlowPlatform | AsyncFlowPlatform,
        execution_id: Id | None = None,
        *,
        spool: str | os.PathLike[str] | _Unset | None = UNSET,
        spool_bytes: int = SPOOL_BYTES,
        memory_bytes: int = MEMORY_BYTES,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self.execution_id = ANY_EXECUTION if execution_id is None else str(UUID(str(execution_id)))
        self._address = platform.address
        root = default_folder() if isinstance(spool, _Unset) else spool
        self._folder = None if root is None else SpoolFolder(Path(root), self._address, spool_bytes)
        self._memory_bytes = memory_bytes
        self._timeout = timeout
        self._delivery: Delivery | None = None
        self._start_at: float | None = None  # on the monotonic clock: when to try again to start the thread
        self._beginning = threading.RLock()
        _of_this_process.add(self)
        self._begin()

    # --- What is told ----------------------------------------------------------------------------------------------

    def status(self, task: str, status: str) -> None:
        """Report a status of a task."""
        try:
            self._tell(status_line(task, status))
        except Exception:
            _log.exception("a status could not be reported")

    def execution_status(self, status: str, *, execution_id: str | None = None) -> None:
        """Report the status of the execution as a whole. The newest one counts."""
        try:
            self._tell(execution_line(status, execution_id))
        except Exception:
            _log.exception("the status of an execution could not be reported")

    def attempt(
        self, run: str, task: str, *, number: int | None = None, execution_id: str | None = None, **says: Any
    ) -> None:
        """Report an attempt of a task, or more of it.

        `run` is any text that names the attempt among those of this reporter. Its number is the next one, or that of an
        attempt that was queued again, if none is given. `says` are fields of the API: `processing_status` is needed,
        and what is left out stays as it was. Times are texts in ISO 8601. With `completed_at` the attempt is over.
        Documents (`input`, `output`, `error`) that are no JSON, or too large for the API, are left out.
        """
        try:
            self._tell(_line_that_fits(AttemptRecord(run, task, number, says, execution_id)))
        except Exception:
            _log.exception("an attempt could not be reported")

    def task(self, name: str, *, input: Any = None, attempt: int | None = None, keep_result: bool = False) -> Task:
        """Return a task, for a `with` statement or as a decorator. See `Task`."""
        return Task(self, name, input=input, attempt=attempt, keep_result=keep_result)

    # --- When it is over -------------------------------------------------------------------------------------------

    def flush(self, timeout: float) -> bool:
        """Wait until the platform has everything that was told by now; say whether it does within `timeout` seconds."""
        return self._delivery is None or self._delivery.flush(timeout)

    def close(self, timeout: float = CLOSE_SECONDS) -> bool:
        """Say that nothing more will be told, and wait like `flush`, but not for a platform that is away.

        What it does not have by then is sent in the background as long as the process lives, then by the next reporter.
        """
        return self._delivery is None or self._delivery.close(timeout)

    @property
    def unsent(self) -> int:
        """How many reports of this process the platform does not have yet."""
        return 0 if self._delivery is None else self._delivery.outbox.unsent

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- The outbox and its thread ---------------------------------------------------------------------------------

    def _tell(self, line: bytes) -> None:
        delivery = self._delivery or self._begin()
        while not delivery.outbox.put(line):
            delivery = self._begin(instead_of=delivery)
        if self._start_at is not None and time.monotonic() >= self._start_at:
            with self._beginning:
                self._start(delivery)

    def _begin(self, instead_of: Delivery | None = None) -> Delivery:
        """Return the delivery; begin one, if there is none in this process."""
        with self._beginning:
            if self._delivery is None or self._delivery is instead_of:
                outbox = Outbox(self._queue())
                delivery = Delivery(outbox, self._folder, self.execution_id, self._address, timeout=self._timeout)
                weakref.finalize(self, _retire, os.getpid(), outbox).atexit = False
                self._delivery = delivery
                _close_all_at_exit()
                self._start(delivery)
            return self._delivery

    def _start(self, delivery: Delivery) -> None:
        """Start the thread. At the end of the interpreter there is none, nor when the system has too many."""
        try:
            delivery.start()
            self._start_at = None
        except RuntimeError:
            if delivery.ident is not None:  # somebody else was faster
                self._start_at = None
                return
            if self._start_at is None:
                _log.warning("reports of execution %s wait: there is no thread to send them", self.execution_id)
            self._start_at = time.monotonic() + START_AGAIN_SECONDS

    def _queue(self) -> Queue:
        if self._folder is not None:
            try:
                return self._folder.create(self.execution_id)
            except OSError as error:
                _log.warning("there is no spool, so reports are lost if this process ends without them: %s", error)
        return MemoryQueue(self._memory_bytes)

    def _forget(self) -> None:
        """Have no delivery: what was told to the parent of this process is the parent's to send."""
        self._delivery = None
        self._start_at = None
        self._beginning = threading.RLock()


def _retire(process: int, outbox: Outbox) -> None:
    """Retire the outbox of a reporter that nobody has any more, in the process that it belongs to."""
    if os.getpid() == process:
        outbox.retire()


def _line_that_fits(attempt: AttemptRecord) -> bytes:
    """Return the line of an attempt, without the documents that are no JSON or make it too large."""
    with contextlib.suppress(TypeError, ValueError, RecursionError):
        line = attempt_line(attempt)
        if len(line) <= MOST_ATTEMPT_BYTES:
            return line
    sizes = {name: _json_bytes(attempt.says[name]) for name in DOCUMENTS if name in attempt.says}
    while sizes and sum(sizes.values()) > MOST_ATTEMPT_BYTES - _WITHOUT_DOCUMENTS:
        largest = max(sizes, key=lambda name: sizes[name])
        _log.error("the %s of an attempt of task %r was left out: no JSON, or too large", largest, attempt.task)
        del sizes[largest]
    says = {name: value for name, value in attempt.says.items() if name in sizes or name not in DOCUMENTS}
    return attempt_line(replace(attempt, says=says))


def _json_bytes(document: Any) -> float:
    """Return how large a document is, infinite for what is no JSON."""
    try:
        return len(json.dumps(document, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace"))
    except (TypeError, ValueError, RecursionError):
        return math.inf


# --- The end of the process, and forks ------------------------------------------------------------------------------

_of_this_process: "weakref.WeakSet[Reporter]" = weakref.WeakSet()
_ends_with_us: int | None = None  # the process that closes its reporters at its end


def _close_all() -> None:
    """Close what still sends, all together within the time that one would have."""
    deadline = time.monotonic() + CLOSE_SECONDS
    sending = deliveries()
    for delivery in sending:
        delivery.outbox.retire()
    for delivery in sending:
        delivery.close(max(0.0, deadline - time.monotonic()))


def _close_all_at_exit() -> None:
    """Have them closed when this process ends, unless it ends by `os._exit` or a signal.

    A child of multiprocessing does end by `os._exit`, but it runs its own finalizers before.
    """
    global _ends_with_us
    if _ends_with_us == os.getpid():
        return
    if _ends_with_us is None:  # children inherit it
        atexit.register(_close_all)
    if util := sys.modules.get("multiprocessing.util"):
        util.Finalize(None, _close_all, exitpriority=0)
    _ends_with_us = os.getpid()


def _forget_the_parent() -> None:
    for reporter in list(_of_this_process):
        reporter._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parent)
