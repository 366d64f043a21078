"""The API of tasks within an execution: what workers report, what came of it, and what people edit."""

from typing import TypeVar
from uuid import UUID

from django.db import models
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from executions import schemas
from executions import serializers as answers
from executions.listing import part_of
from executions.models import FlowExecution, TaskOutput, TaskStatus
from executions.tagging import tags_of
from executions.task_statuses import record_task_statuses
from flowplatform.accounts.models import OrganizationQuerySet, Scope
from flowplatform.accounts.views import OrganizationViewSet
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


class TaskStatusViewSet(OfExecutionViewSet[TaskStatus]):
    """What workers report, and the history that it makes."""

    model = TaskStatus

    @extend_schema(
        operation_id="report_task_statuses",
        summary="Report task statuses",
        parameters=[IDEMPOTENCY_KEY],
        request=schemas.TaskStatusBatch,
        responses=answers.RecordedStatusesAnswer,
        tags=["task statuses"],
    )
    def create(self, request: Request, flow_execution_id: str) -> Response:
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
        return Response(answer)

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
        rows = self.rows().filter(flow_execution_id=execution.pk)
        if query.task_name is not None:
            rows = rows.filter(task_name=query.task_name)
        place = f"task-status {execution.pk}"
        found, cursor = part_of(rows, by="position", place=place, cursor=query.cursor, limit=query.limit)
        statuses = [answers.status_answer(row) for row in found]
        return Response({"statuses": statuses, "next_cursor": cursor})


class TaskOutputViewSet(OfExecutionViewSet[TaskOutput]):
    """The derived state of tasks."""

    model = TaskOutput

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
        rows = self.rows().filter(flow_execution_id=execution.pk)
        if query.task_name is not None:
            rows = rows.filter(task_name=query.task_name)
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
        execution = self.execution_or_404(output.flow_execution_id)
        tags = tags_of(execution.pk, [output.task_name]).get(output.task_name, [])
        return Response(answers.task_output_answer(output, execution.flow_version, tags))
