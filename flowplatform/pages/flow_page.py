"""`/flows/{id}/`: one flow, its runs filtered and page by page, and its graph."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.functional import cached_property
from django.utils.safestring import SafeString

from executions.models import Flow, FlowVersion
from flowplatform.encoding import array_of
from flowplatform.errors import BadRequest
from flowplatform.ids import as_uuid
from flowplatform.pages.base import script_json
from flowplatform.pages.fragments import LiveListPage
from flowplatform.pages.reading import fetched
from flowplatform.pages.run_filter import STATE_CHOICES, RunFilter, run_filter
from flowplatform.pages.run_list import LOOKED_AT, Position, RunPage, position_of, run_page
from flowplatform.pages.run_states import Meaning, word_of
from flowplatform.pages.runs import Run, task_counts

TAGS_SHOWN = 3
# Tags in use are looked for in so many runs, so many in each, and so many are offered.
_RECENT, _LOOKED_AT, _SUGGESTED = 200, 100, 100

_START = """\
TOKEN=$(.venv/bin/python manage.py create_service_token --organization {organization} --name terminal)
curl {origin}/api/flow-executions -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '{{"flow_id": "{flow}", "input": {{}}}}'"""

# Lateral, so that the index is asked for each run, whatever the planner believes.
_TAGS_OF_RUNS = """
    SELECT run.id, standing.*
    FROM unnest(%s::uuid[]) AS run (id), LATERAL (
        SELECT tag_type, tag, count(*) AS tasks FROM tags_tasktag
        WHERE flow_execution_id = run.id AND status = 'active' GROUP BY tag_type, tag
    ) AS standing
    ORDER BY tasks DESC, tag_type, tag
"""

_TAGS_IN_USE = """
    SELECT tag_type, tag, count(*) AS tasks
    FROM (
        SELECT id FROM executions_flowexecution WHERE flow_id = %s AND status <> 'deleted'
        ORDER BY created_at DESC, id DESC LIMIT %s
    ) AS run, LATERAL (
        SELECT tag_type, tag FROM tags_tasktag WHERE flow_execution_id = run.id AND status = 'active' LIMIT %s
    ) AS standing
    GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT %s
"""


class Tag(NamedTuple):
    """A tag that stands on some tasks of a run."""

    tag_type: str
    tag: str
    tasks: int

    @property
    def text(self) -> str:
        """The tag as a filter names it."""
        return f"{self.tag_type}:{self.tag}"


class Row(NamedTuple):
    """A run and the tags that stand in it, the most frequent first."""

    run: Run
    tags: Sequence[Tag]

    @property
    def shown_tags(self) -> Sequence[Tag]:
        """Those there is room for."""
        return self.tags[:TAGS_SHOWN]

    @property
    def other_tags(self) -> Sequence[Tag]:
        """The rest."""
        return self.tags[TAGS_SHOWN:]

    @property
    def other_texts(self) -> str:
        """The rest in words."""
        return ", ".join(tag.text for tag in self.other_tags)


class FlowPage(LiveListPage):
    """One flow: its runs, newest first, or its graph."""

    template_name = "pages/flow.html"
    list_template = "pages/flow_runs.html"
    list_id = "run-list"

    @cached_property
    def flow(self) -> Flow:
        """The flow; 404 if it is missing or foreign."""
        found: Flow = get_object_or_404(
            Flow.objects.visible_to(self.actor).select_related("organization"), pk=self.kwargs["flow_id"]
        )
        return found

    @cached_property
    def filter(self) -> RunFilter:
        """Which runs are wanted."""
        return run_filter(self.request.GET)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the page; send on who comes by the address that a run had before, or by a place that is none."""
        if run_id := as_uuid(request.GET.get("execution", "")):
            return HttpResponseRedirect(reverse("execution-page", args=[run_id]))
        try:
            self.position = self._position()
        except BadRequest:
            return self._first_page()
        self.page = self._page()
        return super().get(request, *args, **kwargs) if self.page else self._first_page()

    def _position(self) -> Position | None:
        cursor = self.request.GET.get("cursor")
        return position_of(self.flow, cursor) if cursor else None

    def _page(self) -> RunPage | None:
        if self.is_graph or self.filter.problems:
            return RunPage([], None, None)
        return run_page(self.flow, self.filter, self.position)

    @property
    def is_graph(self) -> bool:
        """Whether the graph is shown instead of the runs."""
        return self.request.GET.get("tab") == "graph"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        flow, page = self.flow, self.page
        assert page is not None
        version = (flow.pk, flow.version)
        start = _START.format(origin=self.origin, organization=flow.organization.slug, flow=flow.pk)
        return super().get_context_data(
            flow=flow,
            task_count=task_counts([version])[version],
            is_graph=self.is_graph,
            filter=self.filter,
            states=[Meaning(state, word_of(state)) for state in STATE_CHOICES],
            tags_in_use=lambda: _tags_in_use(flow.pk),
            plan=self._plan,
            page=page,
            rows=_rows(page.runs),
            is_first=self.position is None,
            newer=page.newer and self._address(page.newer),
            older=page.older and self._address(page.older),
            looked_at=LOOKED_AT,
            start_command=start,
            sockets_port=settings.SOCKETS_PORT,
            **kwargs,
        )

    def _plan(self) -> SafeString:
        version = FlowVersion.objects.get(flow=self.flow, number=self.flow.version)
        return script_json(version.definition["tasks"])

    def _address(self, position: Position) -> str:
        return "?" + "&".join(filter(None, [self.filter.query, f"cursor={position.cursor(self.flow)}"]))

    def _first_page(self) -> HttpResponse:
        return HttpResponseRedirect(f"{self.request.path}?{self.filter.query}".rstrip("?"))


def _rows(runs: Sequence[Run]) -> list[Row]:
    tags = tags_of_runs([run.execution.id for run in runs])
    return [Row(run, tags.get(run.execution.id, [])) for run in runs]


def tags_of_runs(execution_ids: Sequence[UUID]) -> Mapping[UUID, list[Tag]]:
    """Return the tags that stand on tasks of executions, the most frequent first, in one query."""
    found: dict[UUID, list[Tag]] = defaultdict(list)
    if execution_ids:
        for execution_id, *tag in fetched(_TAGS_OF_RUNS, [array_of(map(str, execution_ids))]):
            found[execution_id].append(Tag(*tag))
    return found


def _tags_in_use(flow_id: UUID) -> list[Tag]:
    """Return the tags of the flow's newest runs, to choose from."""
    return [Tag(*row) for row in fetched(_TAGS_IN_USE, [flow_id, _RECENT, _LOOKED_AT, _SUGGESTED])]
