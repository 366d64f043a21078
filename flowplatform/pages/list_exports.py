"""The lists of the pages as files: the runs of a flow; the tasks, the history and the tags of an execution."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import get_object_or_404

from executions.models import Flow, FlowExecution, FlowVersion
from flowplatform.audit.writing import Subject
from flowplatform.encoding import array_of
from flowplatform.pages.base import MemberPage
from flowplatform.pages.execution import OfExecution
from flowplatform.pages.export import Row, encoded, export_response, in_parts, refusal
from flowplatform.pages.flow_page import tags_of_runs
from flowplatform.pages.reading import fetched
from flowplatform.pages.run_filter import RunFilter, run_filter
from flowplatform.pages.run_list import walk
from flowplatform.pages.run_states import meaning_of
from flowplatform.pages.runs import Run

PART = 500  # rows that one query reads
PART_TASKS = 20_000  # of the runs whose tags one query counts


# --- The runs of a flow ---

RUN_COLUMNS = (
    "run_number",
    "status",
    "queued_at",
    "started_at",
    "ended_at",
    "duration_seconds",
    "tasks",
    "completed",
    "failed",
    "tags",
    "flow_version",
    "execution_status",
    "execution_id",
)


class FlowExport(MemberPage):
    """`/flows/{id}/export.csv` and `.json`: the runs that the same filter shows on the page, all of them."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        flow = get_object_or_404(Flow.objects.visible_to(self.actor), pk=kwargs["flow_id"])
        wanted = run_filter(request.GET)
        if wanted.problems:
            return refusal(wanted.problems)
        title = f"{flow.display_name} runs"
        response = export_response(kwargs["file_type"], title, RUN_COLUMNS, _runs(flow, wanted))
        self.record_export(Subject("flow", str(flow.pk), title), flow.organization_id)
        return response


def _runs(flow: Flow, wanted: RunFilter) -> Iterator[Row]:
    for runs in _parts(run for _, run, _ in walk(flow.pk, wanted) if run):
        tags = tags_of_runs([run.execution.id for run in runs])
        for run in runs:
            yield _run_row(run, [tag.text for tag in tags.get(run.execution.id, [])])


def _parts(runs: Iterable[Run]) -> Iterator[list[Run]]:
    """Yield runs by `PART` at a time, by fewer where they have many tasks."""
    part: list[Run] = []
    tasks = 0
    for run in runs:
        part.append(run)
        tasks += run.task_count
        if len(part) == PART or tasks >= PART_TASKS:
            yield part
            part, tasks = [], 0
    if part:
        yield part


def _run_row(run: Run, tags: list[str]) -> Row:
    execution = run.execution
    return {
        "run_number": execution.run_number,
        "status": run.meaning.word,
        "queued_at": execution.created_at,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "duration_seconds": None if run.took is None else run.took.total_seconds(),
        "tasks": run.task_count,
        "completed": run.counts["completed"],
        "failed": run.counts["failed"],
        "tags": tags,
        "flow_version": execution.flow_version,
        "execution_status": execution.status,
        "execution_id": str(execution.id),
    }


# --- What an execution consists of ---


class ExecutionExport(OfExecution):
    """A list of an execution as a file."""

    name: str
    columns: Sequence[str]

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        execution = self.execution
        title = f"{execution.flow.display_name} run {execution.run_number} {self.name}"
        response = export_response(kwargs["file_type"], title, self.columns, self.rows(execution))
        self.record_export(Subject("flow_execution", str(execution.pk), title), execution.organization_id)
        return response

    def rows(self, execution: FlowExecution) -> Iterable[Row]:
        """Return the rows of the list."""
        raise NotImplementedError


# Of a very long history the newest rows of a task have to do to find its beginning.
_TASKS = """
    SELECT name.task_name, output.processing_status, output.stale_status, output.summary::text, newest.created_at,
           COALESCE(attempt.started_at, begun.created_at), attempt.completed_at, attempts.number, tags.texts
    FROM unnest(%(names)s::text[]) WITH ORDINALITY AS name (task_name, place)
    LEFT JOIN executions_taskoutput AS output
        ON output.organization_id = %(organization)s AND output.flow_execution_id = %(execution)s
       AND output.task_name = name.task_name
    LEFT JOIN LATERAL (
        SELECT created_at FROM executions_taskstatus
        WHERE flow_execution_id = %(execution)s AND task_name = name.task_name ORDER BY position DESC LIMIT 1
    ) AS newest ON true
    LEFT JOIN LATERAL (
        SELECT min(created_at) AS created_at FROM (
            SELECT status, created_at FROM executions_taskstatus
            WHERE flow_execution_id = %(execution)s AND task_name = name.task_name ORDER BY position DESC LIMIT 1000
        ) AS row WHERE status = 'running'
    ) AS begun ON true
    LEFT JOIN LATERAL (
        SELECT started_at, completed_at FROM executions_taskexecution
        WHERE organization_id = %(organization)s AND flow_execution_id = %(execution)s AND task_name = name.task_name
        ORDER BY task_execution_idx DESC LIMIT 1
    ) AS attempt ON true
    LEFT JOIN LATERAL (
        SELECT count(*) AS number FROM executions_taskexecution
        WHERE organization_id = %(organization)s AND flow_execution_id = %(execution)s AND task_name = name.task_name
    ) AS attempts ON true
    LEFT JOIN LATERAL (
        SELECT array_agg(tag_type || ':' || tag ORDER BY created_at, id) AS texts FROM tags_tasktag
        WHERE organization_id = %(organization)s AND flow_execution_id = %(execution)s
          AND task_name = name.task_name AND status = 'active'
    ) AS tags ON true
    ORDER BY place
"""

_OVER = frozenset({"completed", "failed", "cancelled", "skipped"})


class TasksExport(ExecutionExport):
    """`/executions/{id}/tasks.csv` and `.json`: every task of the pinned version, in its order."""

    name = "tasks"
    columns = (
        "task_name",
        "title",
        "status",
        "since",
        "started_at",
        "ended_at",
        "duration_seconds",
        "attempts",
        "stale",
        "tags",
        "summary",
    )

    def rows(self, execution: FlowExecution) -> Iterable[Row]:
        definition = FlowVersion.objects.values_list("definition", flat=True).get(
            flow=execution.flow_id, number=execution.flow_version
        )
        titles = {task["name"]: task.get("title") for task in definition["tasks"]}
        place = {"organization": execution.organization_id, "execution": execution.pk}
        for names in in_parts(titles, PART):
            for name, *told in fetched(_TASKS, {"names": array_of(names), **place}):
                yield {"task_name": name, "title": titles[name], **_task_row(*told)}


def _task_row(
    status: str | None,
    stale_status: str | None,
    summary: str | None,
    since: datetime | None,
    started_at: datetime | None,
    completed_at: datetime | None,
    attempts: int,
    tags: list[str] | None,
) -> Row:
    ended_at = (completed_at or since) if meaning_of(status).state in _OVER else None
    took = None if started_at is None or ended_at is None else (ended_at - started_at).total_seconds()
    return {
        "status": status,
        "since": since,
        "started_at": started_at,
        "ended_at": ended_at,
        "duration_seconds": took,
        "attempts": attempts,
        "stale": stale_status == "stale",
        "tags": tags or [],
        "summary": encoded(summary),
    }


_HISTORY = """
    SELECT position, task_name, status, created_at FROM executions_taskstatus
    WHERE flow_execution_id = %(execution)s AND position > %(after)s ORDER BY position LIMIT %(limit)s
"""


class HistoryExport(ExecutionExport):
    """`/executions/{id}/history.csv` and `.json`: every status that was reported, oldest first."""

    name = "history"
    columns = ("reported_at", "task_name", "status")

    def rows(self, execution: FlowExecution) -> Iterable[Row]:
        after = 0
        while rows := fetched(_HISTORY, {"execution": execution.pk, "after": after, "limit": PART}):
            for _, task_name, status, reported_at in rows:
                yield {"reported_at": reported_at, "task_name": task_name, "status": status}
            after = rows[-1][0]


_TRAIL = """
    SELECT created_at, id, task_name, tag_type, tag, tag_metadata::text, created_by, status = 'deleted', updated_at,
           modified_by
    FROM tags_tasktag
    WHERE flow_execution_id = %(execution)s AND (created_at, id) > (%(at)s::timestamptz, %(id)s::uuid)
    ORDER BY created_at, id LIMIT %(limit)s
"""
_BEGINNING = {"at": "-infinity", "id": "00000000-0000-0000-0000-000000000000"}


class TagsExport(ExecutionExport):
    """`/executions/{id}/tags.csv` and `.json`: every tag that was ever added, with who added and who removed it."""

    name = "tags"
    columns = (
        "task_name",
        "tag_type",
        "tag",
        "metadata",
        "status",
        "added_at",
        "added_by",
        "removed_at",
        "removed_by",
    )

    def rows(self, execution: FlowExecution) -> Iterable[Row]:
        after: dict[str, Any] = _BEGINNING
        while rows := fetched(_TRAIL, {"execution": execution.pk, "limit": PART, **after}):
            for row in rows:
                yield _tag_row(*row)
            after = {"at": rows[-1][0], "id": rows[-1][1]}


def _tag_row(
    added_at: datetime,
    _: object,
    task_name: str,
    tag_type: str,
    tag: str,
    metadata: str | None,
    added_by: str,
    is_removed: bool,
    updated_at: datetime,
    modified_by: str,
) -> Row:
    return {
        "task_name": task_name,
        "tag_type": tag_type,
        "tag": tag,
        "metadata": encoded(metadata),
        "status": "removed" if is_removed else "active",
        "added_at": added_at,
        "added_by": added_by,
        "removed_at": updated_at if is_removed else None,
        "removed_by": modified_by if is_removed else None,
    }
