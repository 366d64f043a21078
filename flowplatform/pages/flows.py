"""`/`: the flows of the person's organizations, each with how its last runs went."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.paginator import Paginator
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce

from executions.models import Flow, FlowExecution, FlowQuerySet
from flowplatform.accounts.models import Organization
from flowplatform.encoding import array_of
from flowplatform.pages.fragments import LiveListPage
from flowplatform.pages.reading import fetched
from flowplatform.pages.runs import COLUMNS, Execution, Run, runs_of, within

FLOWS_PER_PAGE = 50
RUNS_SHOWN = 20
TASKS_COUNTED = 30_000  # for the older marks of a page: flows with very many tasks show fewer of them

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

_LAST = """
    SELECT run.* FROM unnest(%s::uuid[]) AS flow (id), LATERAL (
        SELECT {columns} FROM executions_flowexecution WHERE flow_id = flow.id AND status <> 'deleted'
        ORDER BY created_at DESC, id DESC LIMIT {limit}
    ) AS run
"""

_FINISHED = frozenset({"completed", "failed", "cancelled"})


@dataclass(frozen=True)
class FlowRow:
    """A flow and its last runs, the oldest first as time goes."""

    flow: Flow
    runs: Sequence[Run]

    @property
    def running(self) -> int:
        """How many of them run now."""
        return self._count("running")

    @property
    def awaiting(self) -> int:
        """How many of them wait for somebody."""
        return self._count("awaiting")

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return self._count("failed")

    @property
    def finished(self) -> int:
        """How many of them are over, well or not."""
        return sum(run.meaning.state in _FINISHED for run in self.runs)

    @property
    def changed_at(self) -> datetime:
        """When something last changed."""
        return max((run.changed_at for run in self.runs), default=self.flow.updated_at)

    def _count(self, state: str) -> int:
        return sum(run.meaning.state == state for run in self.runs)


class FlowListPage(LiveListPage):
    """The flows, those with the newest run first."""

    template_name = "pages/flow_list.html"
    list_template = "pages/flow_list_part.html"
    list_id = "flow-list"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        organizations = list(Organization.objects.filter(pk__in=self.actor.organization_ids or ()).order_by("name"))
        flows = _newest_run_first(Flow.objects.visible_to(self.actor).select_related("organization"))
        page = Paginator(flows, FLOWS_PER_PAGE).get_page(self.request.GET.get("page"))
        runs = last_runs([flow.pk for flow in page.object_list])
        slug = organizations[0].slug if organizations else ""
        return super().get_context_data(
            organizations=organizations,
            page=page,
            rows=[FlowRow(flow, runs.get(flow.pk, [])) for flow in page.object_list],
            runs_shown=RUNS_SHOWN,
            register_command=_REGISTER.format(origin=self.origin, organization=slug),
            sockets_port=settings.SOCKETS_PORT,
            **kwargs,
        )


def _newest_run_first(flows: FlowQuerySet) -> QuerySet[Any]:
    """Order by the newest run: ids of version 7 grow with time, so a flow without a run has its own place."""
    newest = FlowExecution.objects.alive().filter(flow=OuterRef("pk")).order_by("-created_at", "-id")
    return flows.order_by(Coalesce(Subquery(newest.values("pk")[:1]), "pk").desc())


def last_runs(flow_ids: Sequence[UUID]) -> dict[UUID, list[Run]]:
    """Return the last runs of flows, oldest first, by flow; the number of queries does not depend on how many."""
    executions: dict[UUID, list[Execution]] = defaultdict(list)
    last = _LAST.format(columns=", ".join(COLUMNS), limit=RUNS_SHOWN)
    for row in fetched(last, [array_of(map(str, flow_ids))]):
        execution = Execution(*row)
        executions[execution.flow_id].append(execution)
    runs: dict[UUID, list[Run]] = defaultdict(list)
    for run in runs_of(_affordable(list(executions.values()))):
        runs[run.execution.flow_id].insert(0, run)
    return runs


def _affordable(lists: list[list[Execution]]) -> list[Execution]:
    """Return the newest execution of each list, then the second newest of each and so on, as far as `within` goes."""
    newest = [executions[0] for executions in lists]
    older = [executions[place] for place in range(1, RUNS_SHOWN) for executions in lists if place < len(executions)]
    return newest + (within(older, TASKS_COUNTED) if older else [])
