"""Staleness: what an edit makes stale, and when a task is consistent again.

Stale is what ran on something that was edited since. It is consistent again once it left the queue: a stale attempt
when its worker reports on it after it was queued, and a new attempt from the beginning. A task that has no attempts,
only statuses, when its history goes on after `queued`. A report of what was running all along changes nothing: it still
ran on the old input.
"""

from collections.abc import Collection

from executions.models import StaleStatus, TaskExecution
from executions.task_changes import TaskChanges

QUEUED = "queued"

_MARK = """
    UPDATE {table} SET stale_status = 'stale', updated_at = clock_timestamp(), modified_by = %(actor)s
    WHERE organization_id = %(organization)s AND flow_execution_id = %(execution)s
      AND task_name = ANY(%(names)s::text[]) AND stale_status <> 'stale'
    RETURNING id, task_name
"""
_MARK_ATTEMPTS = _MARK.format(table="executions_taskexecution")
_MARK_OUTPUTS = _MARK.format(table="executions_taskoutput")

_STARTED = """
    UPDATE executions_taskoutput AS output SET stale_status = 'consistent'
    FROM (
        SELECT DISTINCT task_name
        FROM (
            SELECT uid, task_name, status, lag(status) OVER (PARTITION BY task_name ORDER BY position) AS before
            FROM executions_taskstatus WHERE flow_execution_id = %(execution)s AND task_name = ANY(%(names)s::text[])
        ) AS history
        WHERE uid = ANY(%(uids)s::uuid[]) AND before = 'queued' AND status <> 'queued'
    ) AS started
    WHERE output.organization_id = %(organization)s AND output.flow_execution_id = %(execution)s
      AND output.task_name = started.task_name AND output.stale_status = 'stale'
      AND NOT EXISTS (
          SELECT FROM executions_taskexecution AS attempt
          WHERE attempt.organization_id = output.organization_id
            AND attempt.flow_execution_id = output.flow_execution_id AND attempt.task_name = output.task_name
      )
    RETURNING output.id, output.task_name
"""


def mark_stale(changes: TaskChanges, task_names: Collection[str]) -> None:
    """Mark the attempts and outputs of tasks stale where they were not."""
    changes.update_attempts(_MARK_ATTEMPTS, names=list(task_names))
    changes.update_outputs(_MARK_OUTPUTS, names=list(task_names))


def note_started(changes: TaskChanges, task_names: Collection[str], uids: Collection[str]) -> None:
    """Make tasks without attempts consistent where the history rows `uids` say that they left the queue."""
    changes.update_outputs(_STARTED, names=list(task_names), uids=list(uids))


def after_report(attempt: TaskExecution, processing_status: str) -> str:
    """Return the stale status of an attempt whose worker now reports `processing_status`."""
    left_the_queue = attempt.processing_status == QUEUED and processing_status != QUEUED
    return StaleStatus.CONSISTENT if left_the_queue else attempt.stale_status
