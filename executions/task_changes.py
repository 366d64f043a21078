"""What a transaction changed in the tasks of an execution, told in events: every row once, as it is in the end."""

from collections.abc import Iterable, Iterator
from typing import Any
from uuid import UUID

from executions.facts import ExecutionFacts
from executions.models import TaskExecution, TaskOutput, TaskStatus
from executions.serializers import status_answer, task_execution_answer, task_output_answer
from executions.tagging import tags_of
from notifications import publish

STATUSES_PER_EVENT = 100  # as many as a batch of a worker has at most

Tags = dict[str, list[dict[str, Any]]]
Change = tuple[str, dict[str, Any]]  # the type of an event and its data


class TaskChanges:
    """Collects changed rows of one execution, by id: a row that changes again replaces what was known of it."""

    def __init__(self, facts: ExecutionFacts, execution_id: UUID) -> None:
        self.facts = facts
        self.execution_id = execution_id
        self._attempts: dict[UUID, TaskExecution] = {}
        self._outputs: dict[UUID, TaskOutput] = {}
        self._statuses: list[TaskStatus] = []

    def add_attempts(self, attempts: Iterable[TaskExecution]) -> None:
        """Tell of task executions."""
        self._attempts |= {attempt.pk: attempt for attempt in attempts}

    def add_outputs(self, outputs: Iterable[TaskOutput]) -> None:
        """Tell of task outputs."""
        self._outputs |= {output.pk: output for output in outputs}

    def add_statuses(self, statuses: Iterable[TaskStatus]) -> None:
        """Tell of new rows of the history."""
        self._statuses += statuses

    def tells_of(self, output: TaskOutput) -> bool:
        """Say whether an output is among the changed rows."""
        return output.pk in self._outputs

    def publish(self) -> Tags:
        """Publish an event per changed row, and the history by the hundred; return the live tags of the tasks."""
        names = {attempt.task_name for attempt in self._attempts.values()}
        names |= {output.task_name for output in self._outputs.values()}
        tags = tags_of(self.execution_id, names)
        organization_id, flow_id = self.facts.organization_id, self.facts.flow_id
        publish(*((organization_id, flow_id, type_, self.execution_id, data) for type_, data in self._changes(tags)))
        return tags

    def _changes(self, tags: Tags) -> Iterator[Change]:
        for attempt in self._attempts.values():
            yield "task_execution.updated", task_execution_answer(attempt, tags.get(attempt.task_name, []))
        for output in self._outputs.values():
            version, its_tags = self.facts.flow_version, tags.get(output.task_name, [])
            yield "task_output.updated", task_output_answer(output, version, its_tags)
        for begin in range(0, len(self._statuses), STATUSES_PER_EVENT):
            rows = self._statuses[begin : begin + STATUSES_PER_EVENT]
            yield "task_status.added", {"statuses": [status_answer(row) for row in rows]}
