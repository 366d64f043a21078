"""What is known of an execution while it is watched: fetched over REST, then moved by events."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flowplatform_client import Event, Execution, FlowPlatform
from flowplatform_client.cli.states import BAD, ENDED, state_of
from flowplatform_client.models import moment


@dataclass
class TaskView:
    """A task: its newest status and since when, and when it last began and ended to run."""

    name: str
    status: str | None = None
    changed_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: Any = None
    is_stale: bool = False

    @property
    def state(self) -> str:
        """The state that the status stands for."""
        return state_of(self.status)

    def seconds(self, now: datetime) -> float | None:
        """Return how long it has run, or ran."""
        return None if self.started_at is None else max(0.0, ((self.ended_at or now) - self.started_at).total_seconds())

    def become(self, status: str, at: datetime) -> bool:
        """Take a status over; say whether it is news. What was fetched may know more than the events that follow."""
        if (self.changed_at and at < self.changed_at) or (status, at) == (self.status, self.changed_at):
            return False
        state = state_of(status)
        if state == "queued":
            self.started_at = self.ended_at = None
        elif state == "running" and self.state != "running":
            self.started_at, self.ended_at = at, None
        elif status in ENDED:
            self.ended_at = at
        self.status, self.changed_at = status, at
        return True


class RunView:
    """An execution and its tasks, in the order of the definition."""

    def __init__(self, platform: FlowPlatform, execution: Execution) -> None:
        flow = platform.flows.get(execution.flow_id, version=execution.flow_version)
        self.execution = execution
        self.flow_name = flow.display_name
        self.status = execution.status
        self.tasks = {task["name"]: TaskView(task["name"]) for task in flow.definition["tasks"]}
        self._platform = platform

    @property
    def is_over(self) -> bool:
        """Whether nothing more is expected: the execution has ended, or every task has."""
        return self.status in ENDED | BAD or all(task.status in ENDED for task in self.tasks.values())

    @property
    def ended_badly(self) -> bool:
        """Whether the execution failed or was cancelled, or a task of it."""
        return self.status in BAD or any(task.status in BAD for task in self.tasks.values())

    @property
    def counts(self) -> Mapping[str, int]:
        """How many tasks are in each state."""
        return Counter(task.state for task in self.tasks.values())

    def fetch(self) -> Sequence[TaskView]:
        """Ask for everything that is known; return the tasks that have changed, in the order in which they did.

        Raises `ApiError` and `ConnectionFailedError`.
        """
        self.status = self._platform.executions.get(self.execution.id).status
        newest_first = [
            (row.task_name, row.status, row.created_at) for row in self._platform.statuses.history(self.execution.id)
        ]
        changed = self._become(reversed(newest_first))
        for output in self._platform.task_outputs.list(self.execution.id):
            self._take_output(output.task_name, output.processing_status, output.error, output.stale_status)
        return changed

    def concerns(self, event: Event) -> bool:
        """Say whether an event is about this execution."""
        tagged = (tag.get("flow_execution_id") for tag in event.data.get("tags", ()) if isinstance(tag, dict))
        return self.execution.id in (event.flow_execution_id, *(tagged if event.type == "task_tags.changed" else ()))

    def apply(self, event: Event) -> Sequence[TaskView]:
        """Take over what an event tells; return the tasks that have changed."""
        data = event.data
        match event.type:
            case "flow_execution.updated":
                self.status = data["status"]
            case "flow_execution.deleted":
                self.status = "deleted"
            case "task_status.added":
                rows = data["statuses"]
                return self._become((row["task_name"], row["status"], moment(row["created_at"])) for row in rows)
            case "task_output.updated":
                self._take_output(data["task_name"], data["processing_status"], data["error"], data["stale_status"])
        return ()

    def _become(self, rows: Iterable[tuple[str, str, datetime]]) -> Sequence[TaskView]:
        changed: dict[str, TaskView] = {}
        for name, status, at in rows:
            task = self.tasks.setdefault(name, TaskView(name))
            if task.become(status, at):
                changed.pop(name, None)
                changed[name] = task
        return [*changed.values()]

    def _take_output(self, name: str, status: str | None, error: Any, stale_status: str) -> None:
        task = self.tasks.setdefault(name, TaskView(name))
        task.error, task.is_stale = error, stale_status == "stale"
        if task.changed_at is None:  # a task without a history
            task.status = status
