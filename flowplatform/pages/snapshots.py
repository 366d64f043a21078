"""What a run's tasks say, now or at a moment: read from the history and the trail of tags, for the execution page.

A task's `steps` are its history without repetitions: a worker that says "running" every minute to show that it is
alive adds one step. Tasks that only report attempts, and no statuses, have the steps that their attempts tell.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db import connection
from django.db.models import Q

from executions.models import ExecutionStatus, FlowExecution, TaskExecution, TaskOutput
from executions.serializers import execution_answer
from notifications.replay import positions
from tags.models import TagStatus, TaskTag, TaskTagQuerySet
from tags.serializers import tag_answer

ROWS = 50_000  # of the history, the newest ones: bars of what is older are left out, states are not

Step = tuple[str, datetime]

# `before` is the row before it of the same task, among the rows that are looked at.
_STEPS = """
    SELECT task_name, array_agg(status ORDER BY position), array_agg(created_at ORDER BY position)
    FROM (
        SELECT task_name, status, created_at, position,
               lag(status) OVER (PARTITION BY task_name ORDER BY position) AS before
        FROM (
            SELECT task_name, status, created_at, position FROM executions_taskstatus
            WHERE flow_execution_id = %(execution)s AND (%(at)s::timestamptz IS NULL OR created_at <= %(at)s)
            ORDER BY position DESC
            LIMIT %(limit)s
        ) AS newest
    ) AS row
    WHERE status IS DISTINCT FROM before
    GROUP BY task_name
"""

# Whatever the history's length: the row that was the newest of each task then.
_STATES = """
    SELECT output.task_name, row.status, row.created_at
    FROM executions_taskoutput AS output
    CROSS JOIN LATERAL (
        SELECT status, created_at FROM executions_taskstatus
        WHERE flow_execution_id = output.flow_execution_id AND task_name = output.task_name AND created_at <= %(at)s
        ORDER BY position DESC
        LIMIT 1
    ) AS row
    WHERE output.flow_execution_id = %(execution)s
"""


def snapshot(execution: FlowExecution, at: datetime | None = None) -> dict[str, Any]:
    """Return the execution, its tasks that have said something, and its tags, as they are or as they were at `at`.

    The stream's position is read first, so that the events after it bring whatever changes meanwhile. An execution has
    no history of its own statuses: of the past its tasks tell what it did, as they do of one that is queued.
    """
    position = positions([execution.flow_id]).get(execution.flow_id)
    return {
        "at": at,
        "epoch": position and position.epoch,
        "offset": position and position.offset,
        "execution": execution_answer(execution, run_number=True) | ({"status": ExecutionStatus.QUEUED} if at else {}),
        "tasks": _tasks(execution, at),
        "tags": [_tag(tag, at) for tag in _tags(execution, at)],
    }


def _tasks(execution: FlowExecution, at: datetime | None) -> list[dict[str, Any]]:
    steps = _steps(execution, at)
    outputs = {output["task_name"]: output for output in _outputs(execution)}
    states = _states_then(execution, at, steps) if at else _states_now(outputs, steps)
    return [
        {
            "name": name,
            "status": status,
            "at": since,
            "steps": steps.get(name, []),
            "is_stale": not at and outputs.get(name, {}).get("stale_status") == "stale",
            "is_edited": not at and outputs.get(name, {}).get("edited_status", "not_edited") != "not_edited",
        }
        for name, (status, since) in states.items()
    ]


def _outputs(execution: FlowExecution) -> Iterable[dict[str, Any]]:
    fields = ("task_name", "processing_status", "edited_status", "stale_status", "updated_at")
    return TaskOutput.objects.filter(flow_execution=execution, processing_status__isnull=False).values(*fields)


def _states_now(outputs: Mapping[str, Mapping[str, Any]], steps: Mapping[str, list[Step]]) -> dict[str, Step]:
    """The derived state counts; since when is told by the history where the two agree."""
    states = {}
    for name, output in outputs.items():
        newest = steps[name][-1] if name in steps else ("", output["updated_at"])
        status = output["processing_status"]
        states[name] = newest if newest[0] == status else (status, output["updated_at"])
    return states


def _states_then(execution: FlowExecution, at: datetime, steps: Mapping[str, list[Step]]) -> dict[str, Step]:
    with connection.cursor() as cursor:
        cursor.execute(_STATES, {"execution": execution.pk, "at": at})
        found: dict[str, Step] = {name: (status, since) for name, status, since in cursor.fetchall()}
    return {name: known[-1] for name, known in steps.items()} | found


def _steps(execution: FlowExecution, at: datetime | None) -> dict[str, list[Step]]:
    with connection.cursor() as cursor:
        cursor.execute(_STEPS, {"execution": execution.pk, "at": at, "limit": ROWS})
        steps = {name: list(zip(statuses, moments, strict=True)) for name, statuses, moments in cursor.fetchall()}
    for name, of_attempts in _steps_of_attempts(execution, at).items():
        steps.setdefault(name, of_attempts)
    return steps


def _steps_of_attempts(execution: FlowExecution, at: datetime | None) -> dict[str, list[Step]]:
    attempts = TaskExecution.objects.filter(flow_execution=execution).order_by("task_name", "task_execution_idx")
    fields = ("task_name", "processing_status", "started_at", "completed_at", "created_at", "updated_at")
    steps: dict[str, list[Step]] = {}
    for name, status, started, completed, created, updated in attempts.values_list(*fields)[:ROWS]:
        told = [("running", started or created)]
        if status != "running":
            told.append((status, completed or updated))
        steps.setdefault(name, []).extend(step for step in told if at is None or step[1] <= at)
    return {name: known for name, known in steps.items() if known}


def _tags(execution: FlowExecution, at: datetime | None) -> TaskTagQuerySet:
    tags = TaskTag.objects.of_execution(execution.pk)
    if at is None:
        return tags.live()
    return tags.filter(created_at__lte=at).filter(Q(status=TagStatus.ACTIVE) | Q(updated_at__gt=at))


def _tag(tag: TaskTag, at: datetime | None) -> dict[str, Any]:
    if at:  # whoever removed it did so later
        tag.status, tag.updated_at, tag.modified_by = TagStatus.ACTIVE, tag.created_at, tag.created_by
    return tag_answer(tag)
