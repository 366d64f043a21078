"""Runs of another tool as executions: how they begin, what is told of them, and how they end.

What is told goes through one reporter for each process, so it arrives although the platform is away for a while. Only
the beginning of a run needs an answer, and waits for it a moment. Nothing in here raises.
"""

import functools
import hashlib
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple, TypeVar

from flowplatform_client import endpoints
from flowplatform_client.calls import Call
from flowplatform_client.client import FlowPlatform
from flowplatform_client.errors import ApiError, ConflictError, FlowPlatformError, NotFoundError, UnprocessableError
from flowplatform_client.http import SyncDriver
from flowplatform_client.integrations.followup import Followup
from flowplatform_client.models import Execution, Flow
from flowplatform_client.pages import Page
from flowplatform_client.reporter import Reporter
from flowplatform_client.retries import RetryPolicy

T = TypeVar("T")

Definition = Mapping[str, Any]

PATIENCE_SECONDS = 2.0
AFTER_A_FAILURE_SECONDS = 30.0
_KEYS_LAST = timedelta(hours=23)  # an hour less than on the platform
_SLACK = timedelta(minutes=10)  # between two clocks, and until a run that has begun is told of
_ROUNDS = 4  # of others who define the same flow differently at the same moment

_log = logging.getLogger("flowplatform_client.integrations")


class Begun(NamedTuple):
    """An execution, and its flow in the version that it is pinned to."""

    execution: Execution
    flow: Flow


class Runs:
    """The executions of one server that stand for the runs of another tool.

    `patience_seconds` bounds how long the beginning of a run waits for the platform. If that was in vain, runs are not
    shown for the next half a minute, so that a platform that is away costs the work next to nothing.
    """

    def __init__(self, platform: FlowPlatform, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        self.platform = platform
        retries = RetryPolicy(total_seconds=patience_seconds, first_pause_seconds=0.05, longest_pause_seconds=0.5)
        self.driver = SyncDriver(
            platform.address, timeout=patience_seconds, retries=retries, connections=10, on_wait=lambda reason: None
        )
        self._newest: dict[str, Flow] = {}  # by name, as far as we know
        self._resumes_at = 0.0
        self._reporter: Reporter | None = None
        self._lock = threading.Lock()
        self.followup = Followup(self.driver, self.flush)
        _of_this_process.add(self)

    # --- The beginning ---------------------------------------------------------------------------------------------

    def begin(
        self,
        name: str,
        definition: Definition,
        input: Mapping[str, Any],
        *,
        will_do: Callable[[Definition], bool] | None = None,
    ) -> "Begun | None":
        """Queue an execution of the flow of this name and definition; return both, or `None` if there is none.

        Of the flow's newest version `will_do` says whether it may stay; by default if it says the same.
        """
        return self.guarded(functools.partial(self.queue, name, definition, input, will_do=will_do))

    def guarded(self, begin: Callable[[], T | None]) -> T | None:
        """Return what `begin` returns, `None` if it raises or if the platform was away a moment ago."""
        if time.monotonic() < self._resumes_at:
            return None
        try:
            return begin()
        except ApiError as error:
            if error.status >= 500 or error.is_about_credentials:
                self._resumes_at = time.monotonic() + AFTER_A_FAILURE_SECONDS
            _log.warning("a run is not shown: %s", error)
        except FlowPlatformError as error:
            self._resumes_at = time.monotonic() + AFTER_A_FAILURE_SECONDS
            _log.warning("runs are not shown for the next %g s: %s", AFTER_A_FAILURE_SECONDS, error)
        return None

    def queue(
        self,
        name: str,
        definition: Definition | None,
        input: Mapping[str, Any],
        *,
        key: str | None = None,
        since: datetime | None = None,
        will_do: Callable[[Definition], bool] | None = None,
    ) -> "Begun | None":
        """Do what `begin` does. Raises `FlowPlatformError`.

        With a `key` everybody who begins with it gets the same execution, also after the day for which the platform
        knows keys, if `since` says when the run began: then it is looked for by its input. Without a definition the
        flow has to be there.
        """
        is_old = since is not None and datetime.now(timezone.utc) - since > _KEYS_LAST
        if since is not None and is_old and (found := self._begun(name, input, since)):
            return found
        if will_do is None:
            will_do = _anything if definition is None else functools.partial(_says_the_same, definition)
        for _ in range(_ROUNDS):
            try:
                flow = self._flow(name, definition, will_do)
                if flow is None:
                    return None
                execution = self.driver.send(endpoints.create_execution(flow.id, input, idempotency_key=key))
            except NotFoundError:
                self._newest.pop(name, None)  # deleted
                continue
            if execution.flow_version != flow.version:  # others may add versions at the same moment
                newest = flow
                flow = self.driver.send(endpoints.get_flow(flow.id, version=execution.flow_version))
                self._newest[name] = max(newest, flow, key=lambda each: each.version)
            if key is not None or will_do(flow.definition):
                return Begun(execution, flow)
            self.driver.send(endpoints.delete_execution(execution.id))
        _log.warning("a run of %r is not shown: others keep on changing the definition of this flow", name)
        return None

    def define(self, name: str, definition: Definition) -> None:
        """Give a flow that has begun another definition, for the next run."""
        known = self._newest.get(name)
        if known is None or _says_the_same(definition, known.definition):
            return
        try:
            self._newest[name] = self.driver.send(endpoints.define_flow(known.id, definition))
        except FlowPlatformError as error:
            _log.warning("the definition of %r stays as it was: %s", name, error)

    def _begun(self, name: str, input: Mapping[str, Any], since: datetime) -> "Begun | None":
        """Look for the execution of a run that began long ago."""
        flow = self._newest.get(name) or self._found(name, _anything)
        call: Call[Page[Execution]] | None = None
        if flow is not None:
            begin, end = since - _SLACK, since + _KEYS_LAST + _SLACK
            call = endpoints.list_executions(flow.id, created_after=begin, created_before=end)
        while flow is not None and call is not None:
            page: Page[Execution] = self.driver.send(call)
            for execution in page.rows:
                if execution.input == input:
                    version = endpoints.get_flow(flow.id, version=execution.flow_version)
                    return Begun(execution, self.driver.send(version))
            call = page.next
        return None

    def _flow(self, name: str, definition: Definition | None, will_do: Callable[[Definition], bool]) -> Flow | None:
        """Return the flow of this name with a newest version that will do; `None` without any and a definition."""
        known = self._newest.get(name) or self._found(name, will_do)
        if definition is not None:
            if known is None:
                known = self._created(name, definition, will_do)
            elif not will_do(known.definition):
                known = self.driver.send(endpoints.define_flow(known.id, definition))
        if known is not None:
            self._newest[name] = known
        return known

    def _created(self, name: str, definition: Definition, will_do: Callable[[Definition], bool]) -> Flow:
        """Create a flow, or return the one that another process has created at the same moment."""
        key = f"flow {hashlib.sha256(name.encode()).hexdigest()}"
        try:
            return self.driver.send(endpoints.create_flow(name, definition, idempotency_key=key))
        except (ConflictError, UnprocessableError):  # somebody did so with another definition
            found = self._found(name, will_do)
            if found is None:
                raise
            return found if will_do(found.definition) else self.driver.send(endpoints.define_flow(found.id, definition))

    def _found(self, name: str, will_do: Callable[[Definition], bool]) -> Flow | None:
        """Look for a flow of this name: at best for one that will do as it is."""
        found = None
        call: Call[Page[Flow]] | None = endpoints.list_flows()
        while call is not None:
            page: Page[Flow] = self.driver.send(call)
            for flow in page.rows:
                if flow.display_name == name and will_do(flow.definition):
                    return flow
                if flow.display_name == name:
                    found = found or flow
            call = page.next
        return found

    # --- What is told ----------------------------------------------------------------------------------------------

    def attempt(self, execution_id: str, run: str, task: str, number: int, status: str, **says: Any) -> None:
        """Report an attempt of a task, or more of it: see `Reporter.attempt`."""
        self._told().attempt(run, task, number=number, execution_id=execution_id, processing_status=status, **says)

    def status(self, execution_id: str, status: str) -> None:
        """Report the status of an execution."""
        self._told().execution_status(status, execution_id=execution_id)

    def flush(self, timeout: float) -> bool:
        """Wait until the platform has what was told; say whether it does within `timeout` seconds."""
        return self._reporter is None or self._reporter.flush(timeout)

    def close(self, timeout: float) -> None:
        """See to the ends of executions within `timeout` seconds, and close the reporter."""
        deadline = time.monotonic() + timeout
        self.followup.close(timeout)
        if self._reporter is not None:
            self._reporter.close(max(0.0, deadline - time.monotonic()))

    def _told(self) -> Reporter:
        """Return the reporter. There is none before there is something to tell: most processes only send tasks."""
        if self._reporter is None:
            with self._lock:
                if self._reporter is None:
                    self._reporter = Reporter(self.platform)
        return self._reporter

    def _forget(self) -> None:
        """Have a lock that nobody holds: one that another thread held when we were forked is never released."""
        self._lock = threading.Lock()


def _anything(definition: Definition) -> bool:
    return True


def _says_the_same(one: Definition, other: Definition) -> bool:
    return endpoints.comparable(one) == endpoints.comparable(other)


_of_this_process: "weakref.WeakSet[Runs]" = weakref.WeakSet()


def _forget_the_parent() -> None:
    for runs in list(_of_this_process):
        runs._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parent)
