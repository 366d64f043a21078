"""The pages of flows: the list, and one flow with its runs."""

import json
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.paginator import Paginator
from django.db.models import Count, F, Func, IntegerField, Max, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.shortcuts import get_object_or_404

from executions.models import Flow, FlowExecution, FlowQuerySet, FlowVersion, TaskOutput
from flowplatform.accounts.models import Organization
from flowplatform.pages.base import MemberPage

FLOWS_PER_PAGE = 50

_REGISTER = """\
TOKEN=$(.venv/bin/python manage.py create_service_token --organization {organization} --name terminal)
curl {origin}/api/flows -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -d '{{
  "display_name": "My first flow",
  "definition": {{"tasks": [
    {{"name": "collect"}},
    {{"name": "check", "depends_on": ["collect"]}},
    {{"name": "report", "depends_on": ["check"]}}
  ]}}
}}'"""

_START = """\
TOKEN=$(.venv/bin/python manage.py create_service_token --organization {organization} --name terminal)
curl {origin}/api/flow-executions -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '{{"flow_id": "{flow}", "input": {{}}}}'"""


@dataclass(frozen=True, slots=True)
class LastRun:
    """The newest execution of a flow: how many tasks its version has, and how many of them say what."""

    execution: FlowExecution
    task_count: int
    statuses: dict[str, int]
    changed_at: datetime

    @property
    def statuses_json(self) -> str:
        """The counts as the page's script reads them."""
        return json.dumps(self.statuses)


class FlowListPage(MemberPage):
    """`/`: the flows of the person's organizations, those with the newest run first."""

    template_name = "pages/flow_list.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        organizations = list(Organization.objects.filter(pk__in=self.actor.organization_ids or ()).order_by("name"))
        flows = _with_last_run(Flow.objects.visible_to(self.actor).select_related("organization"))
        page = Paginator(flows, FLOWS_PER_PAGE).get_page(self.request.GET.get("page"))
        runs = last_runs([flow.last_run_id for flow in page.object_list if flow.last_run_id])
        slug = organizations[0].slug if organizations else ""
        return super().get_context_data(
            organizations=organizations,
            page=page,
            rows=[(flow, runs.get(flow.last_run_id)) for flow in page.object_list],
            register_command=_REGISTER.format(origin=self.origin, organization=slug),
            **kwargs,
        )


class FlowPage(MemberPage):
    """`/flows/{id}/`: one flow; its runs and their tasks are put in by the page's script."""

    template_name = "pages/flow.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        flows = Flow.objects.visible_to(self.actor).select_related("organization")
        flow = get_object_or_404(flows.annotate(task_count=_task_count("pk", "version")), pk=kwargs["flow_id"])
        start = _START.format(origin=self.origin, organization=flow.organization.slug, flow=flow.pk)
        return super().get_context_data(flow=flow, start_command=start, sockets_port=settings.SOCKETS_PORT, **kwargs)


def _with_last_run(flows: FlowQuerySet) -> QuerySet[Any]:
    """Add `last_run_id` and order by it: ids of version 7 grow with time, so a flow without a run has its own place."""
    newest = FlowExecution.objects.alive().filter(flow=OuterRef("pk")).order_by("-created_at", "-id")
    flows = flows.annotate(last_run_id=Subquery(newest.values("pk")[:1]))
    return flows.order_by(Coalesce("last_run_id", "pk").desc())


def last_runs(execution_ids: Collection[UUID]) -> dict[UUID, LastRun]:
    """Return these executions with what their tasks report, by id, in two queries."""
    executions = FlowExecution.objects.filter(pk__in=execution_ids).annotate(
        task_count=_task_count("flow_id", "flow_version")
    )
    statuses, changed_at = _reported(execution_ids)
    return {
        execution.pk: LastRun(
            execution=execution,
            task_count=execution.task_count,
            statuses=statuses[execution.pk],
            changed_at=max(execution.updated_at, changed_at.get(execution.pk, execution.updated_at)),
        )
        for execution in executions
    }


def _reported(execution_ids: Collection[UUID]) -> tuple[dict[UUID, dict[str, int]], dict[UUID, datetime]]:
    """Return how many tasks of each execution are in which status, and when the newest of them was reported."""
    rows = (
        TaskOutput.objects.filter(flow_execution_id__in=execution_ids, processing_status__isnull=False)
        .values_list("flow_execution_id", "processing_status")
        .annotate(Count("pk"), Max("updated_at"))
    )
    statuses: dict[UUID, dict[str, int]] = defaultdict(dict)
    changed_at: dict[UUID, datetime] = {}
    for execution_id, status, count, newest in rows:
        statuses[execution_id][status] = count
        changed_at[execution_id] = max(newest, changed_at.get(execution_id, newest))
    return statuses, changed_at


def _task_count(flow: str, version: str) -> Subquery:
    """Count the tasks of a flow version in the database: a definition may be large, and only its size is shown."""
    versions = FlowVersion.objects.filter(flow=OuterRef(flow), number=OuterRef(version))
    tasks = Func(F("definition__tasks"), function="jsonb_array_length", output_field=IntegerField())
    return Subquery(versions.values(count=tasks))
