"""The notifier: a thread of the process that tells Celery which flows have news, off the request.

A hint may be lost without harm: the sweep finds what the relay was not told of. So nothing here raises, waits or grows.
"""

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from uuid import UUID

from celery import current_app
from structlog.contextvars import bound_contextvars

from flowplatform import current_request, metrics

logger = logging.getLogger(__name__)

GATHER_SECONDS = 0.02  # what commits within this time travels together
PAUSE_SECONDS = 0.2  # between two messages at least: under load each carries more
MAX_PENDING = 10_000  # flows; more are left to the sweep
BATCH = 100  # flows in one Celery message
REQUESTS = 10  # whose ids it carries


class Breaker:
    """Stops the knocking at a broker that does not answer: opens after three failures, probes after a pause."""

    def __init__(self, *, failures: int = 3, pause: float = 3.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._pause, self._clock = failures, pause, clock
        self._failures = 0
        self._closed_from = 0.0

    def allows(self) -> bool:
        """Say whether a call may be tried now."""
        return not self.is_open or self._clock() >= self._closed_from

    @property
    def is_open(self) -> bool:
        """Say whether calls are held back but for a probe now and then."""
        return self._failures >= self._limit

    def succeeded(self) -> None:
        """Close the breaker."""
        self._failures = 0

    def failed(self) -> None:
        """Count a failure; from the third on, no call for a while."""
        self._failures += 1
        self._closed_from = self._clock() + self._pause


class Notifier:
    """Gathers hints of many requests and hands them to `send`, a list of flow ids at a time."""

    def __init__(self, send: Callable[[Sequence[str]], None]) -> None:
        self._send = send
        self._breaker = Breaker()
        self._start_afresh()
        os.register_at_fork(after_in_child=self._start_afresh)  # threads do not survive a fork

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._news = threading.Event()
        self._pending: dict[UUID, str | None] = {}  # with the id of the request that changed it
        self._thread: threading.Thread | None = None

    def hint(self, flow_id: UUID) -> None:
        """Say that the flow has committed events. Returns at once and never raises: the write is committed already."""
        try:
            with self._lock:
                if len(self._pending) < MAX_PENDING:
                    self._pending[flow_id] = current_request.current_id()
                else:
                    metrics.hints.labels("dropped").inc()
                if self._thread is None:  # a process that changes nothing needs no thread
                    self._thread = self._started()
            self._news.set()
        except RuntimeError as error:
            logger.warning("the notifier cannot start, the sweep does its work: %s", error)

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name="notifier", daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        next_message = 0.0
        while True:
            self._news.wait()
            time.sleep(max(GATHER_SECONDS, next_message - time.monotonic()))
            next_message = time.monotonic() + PAUSE_SECONDS
            self._news.clear()
            with self._lock:
                pending, self._pending = sorted(self._pending.items()), {}
            for begin in range(0, len(pending), BATCH):
                part = pending[begin : begin + BATCH]
                requests = dict.fromkeys(request_id for _, request_id in part if request_id)
                # django-structlog takes what is bound along, so that the lines of the task name the requests.
                with bound_contextvars(request_ids=list(requests)[:REQUESTS]):
                    self._deliver([str(flow_id) for flow_id, _ in part])

    def _deliver(self, flows: Sequence[str]) -> None:
        if not self._breaker.allows():
            metrics.hints.labels("withheld").inc(len(flows))
            return
        try:
            self._send(flows)
        except Exception as error:
            self._breaker.failed()
            metrics.hints.labels("failed").inc(len(flows))
            logger.warning("the broker did not take %d hints, the sweep will: %s", len(flows), error)
        else:
            self._breaker.succeeded()
            metrics.hints.labels("sent").inc(len(flows))
        metrics.hint_breakers_open.set(self._breaker.is_open)


def _send_to_celery(flows: Sequence[str]) -> None:
    current_app.send_task("notifications.relay", args=[list(flows)], expires=10, retry=False)


notifier = Notifier(_send_to_celery)
