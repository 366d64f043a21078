"""The demo worker: finds its flow, queues one execution, then works on whatever is queued, oldest first."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn
from uuid import UUID

from flowplatform_client import (
    ApiError,
    ConnectionFailedError,
    Execution,
    Flow,
    FlowPlatform,
    NotFoundError,
    StatusUpdate,
)

from flowplatform.demo.check import DocumentCheck
from flowplatform.demo.documents import Library
from flowplatform.demo.marker import WorkMarker
from flowplatform.demo.run import Run
from flowplatform.demo.tasks import FLOW_DESCRIPTION, FLOW_NAME, TASKS, flow_definition

POLL_SECONDS = 1.0
AFTER_REFUSAL_SECONDS = 5.0


class Worker:
    """Works on the executions of the flow "Document check" until the process ends."""

    def __init__(
        self, platform: FlowPlatform, *, library: Library, reports: Path, marker: WorkMarker, pace_seconds: float
    ) -> None:
        self._platform = platform
        self._library = library
        self._reports = reports
        self._marker = marker
        self._pace_seconds = pace_seconds

    def run(self) -> NoReturn:
        """Work for ever. Raises `ApiError` if the token is refused, or if the flow cannot be set up."""
        flow = self._begin()
        say(f'the flow "{FLOW_NAME}" is at {self._platform.flow_page(flow.id)}')
        while True:
            try:
                self._resume()
                self._work_on_queued(flow)
            except (ApiError, ConnectionFailedError) as error:
                if isinstance(error, ApiError) and error.is_about_credentials:
                    raise
                say(str(error))
                time.sleep(AFTER_REFUSAL_SECONDS)

    def _begin(self) -> Flow:
        """Set up the flow and queue an execution, so that there is something to see.

        If an answer got lost both are tried again: at worst one more execution shows the same work.
        """
        while True:
            try:
                flow = self._platform.flows.ensure(FLOW_NAME, flow_definition(), description=FLOW_DESCRIPTION)
                self._platform.executions.create(flow.id)
                return flow
            except ConnectionFailedError as error:
                say(str(error))
                time.sleep(POLL_SECONDS)

    def _work_on_queued(self, flow: Flow) -> None:
        """Take the oldest queued execution, or wait a moment if there is none."""
        queued = self._platform.executions.list(flow.id, status="queued", sort_direction="asc", page_size=1)
        if execution := queued.first():
            self._work_on(execution)
        else:
            time.sleep(POLL_SECONDS)

    def _resume(self) -> None:
        """Start again with the execution that was in work when this worker was last stopped or refused."""
        execution_id = self._marker.read()
        if execution_id is None:
            return
        execution = self._execution_or_none(execution_id)
        if execution is None or execution.status != "running":
            self._marker.clear()
            return
        say(f"execution {execution_id} was interrupted and starts again")
        later = [StatusUpdate(task.name, "waiting") for task in TASKS if task.depends_on]
        self._platform.statuses.add(execution.id, later)
        self._work_on(execution)

    def _execution_or_none(self, execution_id: UUID) -> Execution | None:
        """Return an execution unless it was deleted meanwhile, or belongs to another server."""
        try:
            return self._platform.executions.get(execution_id)
        except NotFoundError:
            return None

    def _work_on(self, execution: Execution) -> None:
        """Take one execution from running to completed or failed."""
        check = self._check(execution)
        self._marker.write(check.execution_id)
        self._platform.executions.set_status(execution.id, "running")
        try:
            self._play(execution, check)
        except ApiError as error:
            self._give_up(execution, error)
        self._marker.clear()

    def _play(self, execution: Execution, check: DocumentCheck) -> None:
        def report(updates: Sequence[StatusUpdate]) -> None:
            self._platform.statuses.add(execution.id, updates)

        Run(TASKS, check, report=report, pace_seconds=self._pace_seconds).play()
        failures = [f"{name}: {each.note}" for name, each in check.outcomes.items() if each.status == "failed"]
        status = "failed" if failures else "completed"
        self._platform.executions.set_status(execution.id, status)
        result = "; ".join(failures) or check.outcomes["validate"].note
        say(f"execution {execution.id} {status}: {result}; report: {check.report_path}")

    def _check(self, execution: Execution) -> DocumentCheck:
        return DocumentCheck(
            execution_id=UUID(execution.id),
            library=self._library,
            folder=execution.input.get("folder"),
            reports=self._reports,
            started_at=datetime.now(UTC),
        )

    def _give_up(self, execution: Execution, error: ApiError) -> None:
        """Fail an execution whose statuses are refused: deleted, or of an older version with other tasks."""
        if error.is_about_credentials:
            raise error
        say(f"execution {execution.id} was given up: {error}")
        if not isinstance(error, NotFoundError):
            self._platform.executions.set_status(execution.id, "failed")


def say(line: str) -> None:
    """Tell whoever watches; at once, also when the output is a file or a pipe."""
    print(f"demo worker: {line}", flush=True)
