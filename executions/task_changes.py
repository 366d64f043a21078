"""What a transaction changed in the tasks of an execution, told in events: every row once, as it is in the end.

An edit may change thousands of rows. So the database makes their events itself, from the rows; the SQL of an object is
made from the same schema as its answer (`object_sql`).
"""

from collections.abc import Collection, Iterable, Iterator
from typing import Any
from uuid import UUID

from django.db import connection

from executions.facts import ExecutionFacts
from executions.models import TaskExecution, TaskOutput, TaskStatus
from executions.serializers import TaskExecutionAnswer, TaskOutputAnswer, status_answer
from executions.tagging import tags_of
from flowplatform.accounts.actors import Actor
from flowplatform.encoding import encode, object_sql
from notifications import publish

STATUSES_PER_EVENT = 100  # as many as a batch of a worker has at most

_TAGS = "COALESCE(tags.value, '[]'::json)"
_CHANGED = f"""
    SELECT 'task_execution.updated' AS type, organization_id, %(flow)s::uuid AS flow_id, flow_execution_id,
           {object_sql(TaskExecutionAnswer, "attempt", tags=_TAGS)} AS data
    FROM executions_taskexecution AS attempt LEFT JOIN json_each(%(tags)s::json) AS tags ON tags.key = attempt.task_name
    WHERE attempt.id = ANY(%(attempts)s::uuid[])
    UNION ALL
    SELECT 'task_output.updated', organization_id, %(flow)s::uuid, flow_execution_id,
           {object_sql(TaskOutputAnswer, "output", tags=_TAGS, flow_version="%(flow_version)s::int")}
    FROM executions_taskoutput AS output LEFT JOIN json_each(%(tags)s::json) AS tags ON tags.key = output.task_name
    WHERE output.id = ANY(%(outputs)s::uuid[])
"""  # noqa: S608  (made of our own names only)


class TaskChanges:
    """Makes changes to the tasks of an execution, which are locked, and remembers the rows that it has to tell of."""

    def __init__(self, actor: Actor, facts: ExecutionFacts, execution_id: UUID) -> None:
        self.execution_id = execution_id
        self._actor = actor
        self._facts = facts
        self._attempts: dict[UUID, str] = {}  # names of tasks
        self._outputs: dict[UUID, str] = {}
        self._statuses: list[TaskStatus] = []

    @property
    def place(self) -> dict[str, UUID]:
        """The parameters that lead to the tasks: the unique indexes begin with the organization."""
        return {"organization": self._facts.organization_id, "execution": self.execution_id}

    def run(self, sql: str, **parameters: Any) -> list[Any]:
        """Run a statement on this execution by this actor and return its rows; nothing is told of them."""
        with connection.cursor() as cursor:
            cursor.execute(sql, {**self.place, "actor": self._actor.name, **parameters})
            rows: list[Any] = cursor.fetchall()
        return rows

    def update_attempts(self, sql: str, **parameters: Any) -> None:
        """Run an update of task executions that returns their ids and the names of their tasks."""
        self._attempts |= dict(self.run(sql, **parameters))

    def update_outputs(self, sql: str, **parameters: Any) -> None:
        """Run an update of task outputs that returns their ids and the names of their tasks."""
        self._outputs |= dict(self.run(sql, **parameters))

    def note(self, *rows: TaskExecution | TaskOutput) -> None:
        """Tell of rows that were saved."""
        for row in rows:
            (self._attempts if isinstance(row, TaskExecution) else self._outputs)[row.pk] = row.task_name

    def note_statuses(self, rows: Iterable[TaskStatus]) -> None:
        """Tell of rows that were appended to the history."""
        self._statuses += rows

    def publish(self) -> None:
        """Publish an event per changed row, and the history by the hundred."""
        if not (self._attempts or self._outputs or self._statuses):
            return
        facts, execution_id = self._facts, self.execution_id
        changed: dict[str, Any] = {
            "attempts": list(self._attempts),
            "outputs": list(self._outputs),
            "tags": encode(tags_of(execution_id, {*self._attempts.values(), *self._outputs.values()})).decode(),
            "flow": facts.flow_id,
            "flow_version": facts.flow_version,
        }
        publish(
            *(
                (facts.organization_id, facts.flow_id, "task_status.added", execution_id, {"statuses": statuses})
                for statuses in self._in_parts()
            ),
            selected={"query": _CHANGED, "parameters": changed},
        )

    def _in_parts(self) -> Iterator[Collection[dict[str, Any]]]:
        for begin in range(0, len(self._statuses), STATUSES_PER_EVENT):
            yield [status_answer(row) for row in self._statuses[begin : begin + STATUSES_PER_EVENT]]
