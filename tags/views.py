"""`/api/task-tags`: the batch and the trail."""

from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from executions.models import FlowExecution
from executions.refusals import UNKNOWN_TASKS
from flowplatform.accounts.models import Scope
from flowplatform.accounts.views import OrganizationViewSet, TrustingViewSet
from flowplatform.audit.authors import origin_of
from flowplatform.idempotency.views import request_key
from flowplatform.openapi import IDEMPOTENCY_KEY, KEY_IN_FLIGHT, Reason, query_parameters, refused
from flowplatform.openapi.examples import IDS
from tags.models import TaskTag, TaskTagQuerySet
from tags.schemas import TagBatch, TaskTagsQuery
from tags.serializers import TagBatchAnswer, TaskTagsAnswer, tag_answer
from tags.services import change_task_tags

UNKNOWN_OPERATION = Reason(
    "unknown operation",
    "An operation is either add or remove; nothing was written.",
    details=[{"index": 0, "operation": "replace"}],
)
OVERTAKEN = (
    KEY_IN_FLIGHT,
    Reason(
        "somebody was faster",
        "Somebody changed these tags meanwhile; nothing was written.",
        code="conflict",
        details=[
            {
                "flow_execution_id": IDS["flow_execution_id"],
                "task_name": "extract",
                "tag_type": "review",
                "tags": [],
                "last_change": None,
            }
        ],
    ),
)


class TaskTagViewSet(TrustingViewSet, OrganizationViewSet[TaskTag, TaskTagQuerySet]):
    """Tags of tasks."""

    model = TaskTag
    trusted = ("PATCH",)

    @extend_schema(
        operation_id="change_task_tags",
        summary="Add and remove tags",
        parameters=[IDEMPOTENCY_KEY],
        request=TagBatch,
        responses={
            200: TagBatchAnswer,
            400: refused("The whole batch is refused.", UNKNOWN_TASKS, UNKNOWN_OPERATION),
            409: refused("The first request with this key is still running, or somebody was faster.", *OVERTAKEN),
        },
        tags=["task tags"],
    )
    def change(self, request: Request) -> Response:
        """1 to 100 operations, applied in order, all or none. Removal keeps the row: the trail of who and when."""
        self.require_writer_somewhere(Scope.TAGS_WRITE)
        batch = self.body(TagBatch)
        key = request_key(request, self.actor)
        outcomes = change_task_tags(
            actor=self.actor, operations=batch.tags, expected=batch.expected, key=key, origin=origin_of(request)
        )
        return Response({"tags": [{"status": outcome} for outcome in outcomes]})

    @extend_schema(
        operation_id="list_task_tags",
        summary="List tags",
        parameters=query_parameters(TaskTagsQuery),
        responses=TaskTagsAnswer,
        tags=["task tags"],
    )
    def list(self, request: Request) -> Response:
        """The tags of an execution, or of one of its tasks, oldest first; with `include_deleted` the whole trail."""
        query = self.query(TaskTagsQuery)
        executions = FlowExecution.objects.visible_to(self.actor).alive()
        if not executions.filter(pk=query.flow_execution_id).exists():
            raise NotFound
        tags = self.rows().of_execution(query.flow_execution_id)
        if not query.include_deleted:
            tags = tags.live()
        if query.task_name is not None:
            tags = tags.filter(task_name=query.task_name)
        return Response([tag_answer(tag) for tag in tags])
