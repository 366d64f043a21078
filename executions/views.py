"""The API of flows and their executions: validate, scope, call, answer."""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from executions import schemas
from executions import serializers as answers
from executions.filters import filtered
from executions.listing import page_of
from executions.models import Flow, FlowExecution, FlowExecutionQuerySet, FlowQuerySet
from executions.refusals import BEING_CANCELLED, INVALID_DEFINITION
from executions.reruns import execute_again
from executions.services import (
    change_execution_status,
    create_flow,
    delete_execution,
    queue_execution,
    replace_definition,
    request_cancel,
)
from flowplatform.accounts.models import Scope
from flowplatform.accounts.views import OrganizationViewSet
from flowplatform.idempotency.services import answered_once
from flowplatform.idempotency.views import request_key
from flowplatform.openapi import IDEMPOTENCY_KEY, ORGANIZATION, query_parameters


class FlowViewSet(OrganizationViewSet[Flow, FlowQuerySet]):
    """Flows and their immutable versions."""

    model = Flow

    @extend_schema(
        operation_id="list_flows",
        summary="List flows",
        parameters=query_parameters(schemas.PageQuery),
        responses=answers.FlowsAnswer,
        tags=["flows"],
    )
    def list(self, request: Request) -> Response:
        """The flows of your organizations, newest first, with their newest definitions. `Link` names the next page."""
        query = self.query(schemas.PageQuery)
        flows = self.rows().with_definition().newest_first()
        page, headers = page_of(flows, request, query.page, query.page_size)
        return Response([answers.FlowAnswer.of(flow) for flow in page], headers=headers)

    @extend_schema(
        operation_id="create_flow",
        summary="Register a flow",
        parameters=[ORGANIZATION, IDEMPOTENCY_KEY],
        request=schemas.FlowBody,
        responses={201: answers.FlowAnswer, 400: INVALID_DEFINITION},
        tags=["flows"],
    )
    def create(self, request: Request) -> Response:
        """A flow with its first version. Names are unique, dependencies known and free of cycles."""
        organization_id = self.organization_for_new()
        self.require_writer(organization_id, Scope.EXECUTIONS_WRITE)
        body = self.body(schemas.FlowBody)

        def answer() -> dict[str, Any]:
            flow = create_flow(
                actor=self.actor,
                organization_id=organization_id,
                display_name=body.display_name,
                description=body.description,
                definition=body.definition,
            )
            return answers.FlowAnswer.of(flow)

        return Response(answered_once(request_key(request, self.actor), answer), status=201)

    @extend_schema(
        operation_id="get_flow",
        summary="Get a flow",
        parameters=query_parameters(schemas.FlowQuery),
        responses=answers.FlowAnswer,
        tags=["flows"],
    )
    def retrieve(self, request: Request, flow_id: str) -> Response:
        """The flow with its newest definition, or with that of the version asked for."""
        number = self.query(schemas.FlowQuery).version
        flow = self.row_or_404("flow_id", lambda rows: rows.with_definition(number))
        flow.version = number or flow.version
        return Response(answers.FlowAnswer.of(flow))

    @extend_schema(
        operation_id="replace_flow_definition",
        summary="Add a version",
        parameters=[IDEMPOTENCY_KEY],
        request=schemas.DefinitionBody,
        responses={200: answers.FlowAnswer, 400: INVALID_DEFINITION},
        tags=["flows"],
    )
    def replace_definition(self, request: Request, flow_id: str) -> Response:
        """A new immutable version. Executions that exist keep the version they are pinned to."""
        flow = self.row_or_404("flow_id")
        self.require_writer(flow.organization_id, Scope.EXECUTIONS_WRITE)
        body = self.body(schemas.DefinitionBody)

        def answer() -> dict[str, Any]:
            return answers.FlowAnswer.of(replace_definition(actor=self.actor, flow=flow, definition=body.definition))

        return Response(answered_once(request_key(request, self.actor), answer))


class FlowExecutionViewSet(OrganizationViewSet[FlowExecution, FlowExecutionQuerySet]):
    """Executions of flows."""

    model = FlowExecution

    @extend_schema(
        operation_id="list_flow_executions",
        summary="List the executions of a flow",
        parameters=query_parameters(schemas.FlowExecutionsQuery),
        responses=answers.FlowExecutionsAnswer,
        tags=["flow executions"],
    )
    def list(self, request: Request) -> Response:
        """Executions of a flow, newest first unless asked otherwise. `Link` names the next page."""
        query = self.query(schemas.FlowExecutionsQuery)
        if not Flow.objects.visible_to(self.actor).filter(pk=query.flow_id).exists():
            raise NotFound
        page, headers = page_of(filtered(self.rows(), query), request, query.page, query.page_size)
        found = [answers.execution_answer(execution, run_number=query.include_run_number) for execution in page]
        return Response(found, headers=headers)

    @extend_schema(
        operation_id="create_flow_execution",
        summary="Queue an execution",
        parameters=[IDEMPOTENCY_KEY],
        request=schemas.FlowExecutionBody,
        responses={201: answers.FlowExecutionAnswer},
        tags=["flow executions"],
    )
    def create(self, request: Request) -> Response:
        """A queued execution, pinned to the flow's newest version."""
        body = self.body(schemas.FlowExecutionBody)
        flow = Flow.objects.visible_to(self.actor).filter(pk=body.flow_id).first()
        if flow is None:
            raise NotFound
        self.require_writer(flow.organization_id, Scope.EXECUTIONS_WRITE)

        def answer() -> dict[str, Any]:
            return answers.execution_answer(queue_execution(actor=self.actor, flow=flow, input=body.input))

        return Response(answered_once(request_key(request, self.actor), answer), status=201)

    @extend_schema(
        operation_id="get_flow_execution",
        summary="Get an execution",
        responses=answers.FlowExecutionAnswer,
        tags=["flow executions"],
    )
    def retrieve(self, request: Request, flow_execution_id: str) -> Response:
        """The execution."""
        return Response(answers.execution_answer(self.row_or_404("flow_execution_id", lambda rows: rows.alive())))

    @extend_schema(
        operation_id="delete_flow_execution",
        summary="Delete an execution",
        responses={204: None},
        tags=["flow executions"],
    )
    def destroy(self, request: Request, flow_execution_id: str) -> Response:
        """Soft deletion: the execution is gone from every list, its history stays. Again is 204 too."""
        execution = self.row_or_404("flow_execution_id")
        self.require_writer(execution.organization_id, Scope.EXECUTIONS_WRITE)
        delete_execution(actor=self.actor, execution_id=execution.pk)
        return Response(status=204)

    @extend_schema(
        operation_id="cancel_flow_execution",
        summary="Cancel an execution",
        request=None,
        responses={204: None},
        tags=["flow executions"],
    )
    def cancel(self, request: Request, flow_execution_id: str) -> Response:
        """Ask the workers to stop: `cancel_requested` until they confirm. A finished execution stays as it is."""
        execution = self.row_or_404("flow_execution_id", lambda rows: rows.alive())
        self.require_writer(execution.organization_id, Scope.EXECUTIONS_WRITE)
        request_cancel(actor=self.actor, execution_id=execution.pk)
        return Response(status=204)

    @extend_schema(
        operation_id="execute_flow_execution",
        summary="Execute again",
        request=None,
        parameters=[*query_parameters(schemas.ExecuteQuery), IDEMPOTENCY_KEY],
        responses={204: None, 409: BEING_CANCELLED},
        tags=["flow executions"],
    )
    def execute(self, request: Request, flow_execution_id: str) -> Response:
        """Queue the execution again for its workers: every task that has reported, or only the stale ones."""
        query = self.query(schemas.ExecuteQuery)
        execution = self.row_or_404("flow_execution_id", lambda rows: rows.alive())
        self.require_writer(execution.organization_id, Scope.EXECUTIONS_WRITE)

        def answer() -> None:
            execute_again(actor=self.actor, execution_id=execution.pk, only_stale=query.only_stale)

        answered_once(request_key(request, self.actor, has_body=False), answer)
        return Response(status=204)

    @extend_schema(
        operation_id="set_flow_execution_status",
        summary="Set an execution's status",
        request=None,
        parameters=query_parameters(schemas.ExecutionStatusQuery),
        responses=answers.FlowExecutionAnswer,
        tags=["flow executions"],
    )
    def set_status(self, request: Request, flow_execution_id: str) -> Response:
        """What a service says about the run as a whole. Task statuses never change it."""
        self.require_service(Scope.EXECUTIONS_WRITE)
        query = self.query(schemas.ExecutionStatusQuery)
        execution = self.row_or_404("flow_execution_id", lambda rows: rows.alive())
        execution = change_execution_status(actor=self.actor, execution_id=execution.pk, status=query.status)
        return Response(answers.execution_answer(execution))
