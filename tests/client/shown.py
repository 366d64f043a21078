"""What the platform has of a run that another tool has done."""

import pytest

from executions.models import FlowExecution, FlowVersion, TaskExecution, TaskOutput
from tests.stack import wait_until


class Shown:
    """What the platform has of a run. Names are without the module `prefix` that all tasks are in."""

    def __init__(self, execution: FlowExecution, prefix: str = "") -> None:
        self.execution = execution
        self._prefix = prefix

    @property
    def status(self) -> str:
        self.execution.refresh_from_db()
        return self.execution.status

    @property
    def waits(self) -> dict[str, list[str]]:
        """Which tasks the run has, and which each of them waits for."""
        version = FlowVersion.objects.get(flow=self.execution.flow_id, number=self.execution.flow_version)
        tasks = version.definition["tasks"]
        return {self._short(task["name"]): [*map(self._short, task["depends_on"])] for task in tasks}

    @property
    def states(self) -> dict[str, str | None]:
        outputs = TaskOutput.objects.filter(flow_execution=self.execution)
        states = {self._short(name): state for name, state in outputs.values_list("task_name", "processing_status")}
        return {name: states.get(name) for name in self.waits}

    def attempts(self, task: str) -> list[TaskExecution]:
        rows = TaskExecution.objects.filter(flow_execution=self.execution, task_name=self._prefix + task)
        return [*rows.order_by("task_execution_idx")]

    def ends(self, status: str = "completed", *states: str) -> None:
        """Wait until the run and all of its tasks have ended like this."""

        def has_ended() -> bool:
            return self.status == status and set(self.states.values()) <= set(states or [status])

        try:
            wait_until(has_ended, seconds=20)
        except AssertionError:
            pytest.fail(f"{self.status}: {self.states}")

    def _short(self, name: str) -> str:
        return name.removeprefix(self._prefix)
