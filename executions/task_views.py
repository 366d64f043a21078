"""The API of tasks within an execution: what workers report, what came of it, and what people edit."""

from typing import Any, TypeVar
from uuid import UUID

from django.db import models
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from executions import schemas
from executions import serializers as answers
from executions.listing import part_of
from executions.models import FlowExecution, TaskExecution, TaskOutput, TaskStatus
from executions.refusals import CHANGED_MEANWHILE, REFUSED_TASKS
from executions.tagging import tags_of
from executions.task_executions import edit_task_execution, record_task_execution
from executions.task_outputs import set_task_output
from executions.task_statuses import record_task_statuses
from flowplatform import metrics
from flowplatform.accounts.models import OrganizationQuerySet, Scope
from flowplatform.accounts.views import OrganizationViewSet, TrustingViewSet
from flowplatform.idempotency.services import answered_once
from flowplatform.idempotency.views import request_key
from flowplatform.openapi import IDEMPOTENCY_KEY, query_parameters

Row = TypeVar("Row", bound=models.Model)


class OfExecutionViewSet(OrganizationViewSet[Row, OrganizationQuerySet]):
    """A view set over rows that belong to an execution: when that is deleted, they are gone too."""

    def execution_or_404(self, execution_id: UUID) -> FlowExecution:
        """Return the execution; missing, foreign or deleted is 404."""
        execution: FlowExecution | None = (
            FlowExecution.objects.visible_to(self.actor).alive().filter(pk=execution_id).first()
        )
        if execution is None:
            raise NotFound
        return execution

    def of_task(self, execution: FlowExecution, task_name: str | None) -> OrganizationQuerySet:
        """Return the rows of an execution, or of one of its tasks."""
        rows = self.rows().filter(flow_execution_id=execution.pk)
        return rows if task_name is None else rows.filter(task_name=task_name)


class TaskStatusViewSet(TrustingViewSet, OfExecutionViewSet[TaskStatus]):
    """What workers report, and the history that it makes."""

    model = TaskStatus
    trusted = ("POST",)

    @extend_schema(
        operation_id="report_task_statuses",
        summary="Report task statuses",
        parameters=[IDEMPOTENCY_KEY],
        request=schemas.TaskStatusBatch,
        responses={200: answers.RecordedStatusesAnswer, 400: REFUSED_TASKS},
        tags=["task statuses"],
    )
    def create(self, request: Request, flow_execution_id: str) -> HttpResponse:
        """1 to 100 updates, applied in order, all or none; the state of their tasks follows in the same transaction."""
        self.require_service(Scope.STATUS_WRITE)
        execution_id = self.path_id("flow_execution_id")
        batch = self.body(schemas.TaskStatusBatch)
        answer = record_task_statuses(
            actor=self.actor,
            execution_id=execution_id,
            updates=batch.statuses,
            key=request_key(request, self.actor),
        )
        return HttpResponse(answer, content_type="application/json")

    @extend_schema(
        operation_id="list_task_statuses",
        summary="Status history",
        parameters=query_parameters(schemas.TaskStatusesQuery),
        responses=answers.TaskStatusesAnswer,
        tags=["task statuses"],
    )
    def list(self, request: Request, flow_execution_id: str) -> Response:
        """The history of an execution, or of one of its tasks, newest first."""
        execution = self.execution_or_404(self.path_id("flow_execution_id"))
        query = self.query(schemas.TaskStatusesQuery)
        rows = self.of_task(execution, query.task_name)
        place = f"task-status {execution.pk}"
        found, cursor = part_of(rows, by="position", place=place, cursor=query.cursor, limit=query.limit)
        statuses = [answers.status_answer(row) for row in found]
        return Response({"statuses": statuses, "next_cursor": cursor})


class TaskExecutionViewSet(OfExecutionViewSet[TaskExecution]):
    """Attempts of tasks: reported by workers, edited by people."""

    model = TaskExecution

    @extend_schema(
        operation_id="report_task_execution",
        summary="Report a task execution",
        request=schemas.TaskExecutionBody,
        responses={201: answers.TaskExecutionAnswer, 400: REFUSED_TASKS},
        tags=["task executions"],
    )
    def create(self, request: Request) -> Response:
        """One attempt of a task, inserted or updated: the same again makes the same. What is left out stays as it is.

        The task's output follows its newest attempt.
        """
        self.require_service(Scope.EXECUTIONS_WRITE)
        report = self.body(schemas.TaskExecutionBody)
        attempt = record_task_execution(actor=self.actor, report=report)
        metrics.batch_items.labels("execution").observe(1)
        return Response(_task_execution(attempt), status=201)

    @extend_schema(
        operation_id="edit_task_execution",
        summary="Edit a task execution",
        parameters=[*query_parameters(schemas.EditQuery), IDEMPOTENCY_KEY],
        request=schemas.TaskExecutionEdit,
        responses={200: answers.TaskExecutionAnswer, 409: CHANGED_MEANWHILE},
        tags=["task executions"],
    )
    def edit(self, request: Request) -> Response:
        """The whole object as it was read, with changes. If somebody changed it meanwhile the answer is 409.

        Every task downstream becomes stale; with `execute_flow` what is stale is queued again.
        """
        self.require_writer_somewhere(Scope.EXECUTIONS_WRITE)
        query = self.query(schemas.EditQuery)
        edit = self.body(schemas.TaskExecutionEdit)
        attempt = self.rows().filter(pk=edit.id).first()
        if attempt is None:
            raise NotFound
        self.require_writer(attempt.organization_id, Scope.EXECUTIONS_WRITE)
        execution_id = attempt.flow_execution_id

        def answer() -> dict[str, Any]:
            edited = edit_task_execution(
                actor=self.actor, execution_id=execution_id, edit=edit, execute_flow=query.execute_flow
            )
            return _task_execution(edited)

        return Response(answered_once(request_key(request, self.actor), answer))

    @extend_schema(
        operation_id="list_task_executions",
        summary="List task executions",
        parameters=query_parameters(schemas.TaskExecutionsQuery),
        responses=answers.TaskExecutionsAnswer,
        tags=["task executions"],
    )
    def list(self, request: Request) -> Response:
        """The attempts of an execution's tasks with the live tags of each task, newest first."""
        query = self.query(schemas.TaskExecutionsQuery)
        execution = self.execution_or_404(query.flow_execution_id)
        rows = self.of_task(execution, query.task_name)
        if query.task_execution_idx is not None:
            rows = rows.filter(task_execution_idx=query.task_execution_idx)
        place = f"task-executions {execution.pk}"
        found, cursor = part_of(rows, by="id", place=place, cursor=query.cursor, limit=query.limit)
        tags = tags_of(execution.pk, {row.task_name for row in found})
        attempts = [answers.task_execution_answer(row, tags.get(row.task_name, [])) for row in found]
        return Response({"task_executions": attempts, "next_cursor": cursor})

    @extend_schema(
        operation_id="get_task_execution",
        summary="Get a task execution",
        responses=answers.TaskExecutionAnswer,
        tags=["task executions"],
    )
    def retrieve(self, request: Request, task_execution_id: str) -> Response:
        """One attempt of a task."""
        attempt = self.row_or_404("task_execution_id")
        self.execution_or_404(attempt.flow_execution_id)
        return Response(_task_execution(attempt))


def _task_execution(attempt: TaskExecution) -> dict[str, Any]:
    tags = tags_of(attempt.flow_execution_id, [attempt.task_name])
    return answers.task_execution_answer(attempt, tags.get(attempt.task_name, []))


class TaskOutputViewSet(OfExecutionViewSet[TaskOutput]):
    """The derived state of tasks."""

    model = TaskOutput

    @extend_schema(
        operation_id="set_task_output",
        summary="Set a task's output",
        request=schemas.TaskOutputBody,
        responses={201: answers.TaskOutputAnswer, 400: REFUSED_TASKS},
        tags=["task outputs"],
    )
    def create(self, request: Request) -> Response:
        """Summary and output of a task. What is left out stays as it is."""
        self.require_service(Scope.EXECUTIONS_WRITE)
        body = self.body(schemas.TaskOutputBody)
        execution = self.execution_or_404(body.flow_execution_id)
        return Response(_task_output(execution, set_task_output(actor=self.actor, body=body)), status=201)

    @extend_schema(
        operation_id="list_task_outputs",
        summary="List task outputs",
        parameters=query_parameters(schemas.TaskOutputsQuery),
        responses=answers.TaskOutputsAnswer,
        tags=["task outputs"],
    )
    def list(self, request: Request) -> Response:
        """The state of every task of an execution that has reported, or of one of them, newest first."""
        query = self.query(schemas.TaskOutputsQuery)
        execution = self.execution_or_404(query.flow_execution_id)
        rows = self.of_task(execution, query.task_name)
        place = f"task-outputs {execution.pk}"
        found, cursor = part_of(rows, by="id", place=place, cursor=query.cursor, limit=query.limit)
        tags = tags_of(execution.pk, [row.task_name for row in found])
        outputs = [
            answers.task_output_answer(row, execution.flow_version, tags.get(row.task_name, [])) for row in found
        ]
        return Response({"task_outputs": outputs, "next_cursor": cursor})

    @extend_schema(
        operation_id="get_task_output",
        summary="Get a task output",
        responses=answers.TaskOutputAnswer,
        tags=["task outputs"],
    )
    def retrieve(self, request: Request, task_output_id: str) -> Response:
        """The state of one task."""
        output = self.row_or_404("task_output_id")
        return Response(_task_output(self.execution_or_404(output.flow_execution_id), output))


def _task_output(execution: FlowExecution, output: TaskOutput) -> dict[str, Any]:
    tags = tags_of(execution.pk, [output.task_name])
    return answers.task_output_answer(output, execution.flow_version, tags.get(output.task_name, []))
