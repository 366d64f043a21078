"""`/review/`: what waits for somebody's decision, and with `?show=decided` who decided what, and when."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse

from executions.models import Flow, FlowExecution
from flowplatform.accounts.models import Organization, Scope, User
from flowplatform.accounts.services import may_write
from flowplatform.audit.writing import Subject
from flowplatform.encoding import array_of, encode
from flowplatform.errors import BadRequest
from flowplatform.ids import as_uuid
from flowplatform.pages.base import MemberPage
from flowplatform.pages.decided import KINDS, Decision, DecisionFilter, DecisionPage, decision_page, position_of
from flowplatform.pages.export import Row, export_response, in_parts, refusal
from flowplatform.pages.fragments import LiveListPage
from flowplatform.pages.run_states import Meaning, meaning_of
from flowplatform.pages.waiting import LOOKED_AT, REASONS, TAGGED, WaitingFilter, WaitingTask, Worklist, worklist
from tags.models import TaskTag
from tags.serializers import tag_answer

SHOWN = 200  # of what waits; the others come up as these are decided
PART = 500  # tasks whose tags one query reads
_LONGEST_NAME = 255  # as the column has it

_ASK = """\
TOKEN=$(.venv/bin/python manage.py create_service_token --organization {organization} --name terminal)
curl -X PATCH {origin}/api/task-tags -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" -d '{{
  "tags": [{{"operation": "add", "flow_execution_id": "{execution}", "task_name": {task},
            "tag": "requires_review", "tag_type": "review", "tag_metadata": {{"note": "please look"}}}}]
}}'"""

# `OFFSET 0` keeps the planner from reading all tags of everybody first.
_TAGS = """
    SELECT tag.* FROM unnest(%(executions)s::uuid[], %(names)s::text[]) AS wanted (flow_execution_id, task_name)
    CROSS JOIN LATERAL (
        SELECT * FROM tags_tasktag AS tag
        WHERE tag.organization_id =
              (SELECT organization_id FROM executions_flowexecution WHERE id = wanted.flow_execution_id)
          AND tag.flow_execution_id = wanted.flow_execution_id AND tag.task_name = wanted.task_name
          AND tag.status = 'active'
        OFFSET 0
    ) AS tag
    ORDER BY tag.created_at, tag.id
"""

Task = tuple[UUID, str]


def person_of(author: str) -> str:
    """Write an author as people say it, like `decisions.js`: "alice", "doc-3 (service)"."""
    kind, _, name = author.partition(":")
    return f"{name} (service)" if kind == "service" else name or kind


def note_of(metadata: Any) -> str:
    """Return what somebody wrote beside a tag: its `note`, or the metadata as it is."""
    if metadata is None:
        return ""
    note = metadata.get("note") if isinstance(metadata, dict) else None
    return note if isinstance(note, str) else json.dumps(metadata, ensure_ascii=False)


@dataclass(frozen=True)
class TagOfTask:
    """A live tag of a task as the pages show it."""

    tag: TaskTag

    @property
    def asks(self) -> bool:
        """Whether it asks for a verdict."""
        return bool(self.tag.tag == "requires_review")

    @property
    def by(self) -> str:
        """Who put it there."""
        return person_of(self.tag.created_by)

    @property
    def note(self) -> str:
        """What was written beside it."""
        return note_of(self.tag.tag_metadata)


@dataclass(frozen=True)
class WaitingRow:
    """A task that waits, with what is known about it besides."""

    task: WaitingTask
    flow: Flow
    tags: Sequence[TagOfTask]
    may_decide: bool

    @property
    def key(self) -> str:
        """What tells it from others: a name may be any text, so it comes last."""
        return f"{self.task.flow_execution_id} {self.task.task_name}"

    @property
    def address(self) -> str:
        """Where the run shows the task."""
        return _address(self.task.flow_execution_id, self.task.task_name)

    @property
    def meaning(self) -> Meaning:
        """By which state it waits."""
        return meaning_of(self.task.status)

    @property
    def asking(self) -> list[TagOfTask]:
        """The tags that ask for a verdict."""
        return [tag for tag in self.tags if tag.asks]

    @property
    def others(self) -> list[TagOfTask]:
        """What else was said of it."""
        return [tag for tag in self.tags if not tag.asks]

    @property
    def tags_json(self) -> str:
        """The tags as the API shows them: what somebody who decides has seen."""
        return encode([tag_answer(tag.tag) for tag in self.tags]).decode()


@dataclass(frozen=True)
class DecisionRow:
    """A decision, with the flow that it belongs to."""

    decision: Decision
    flow: Flow

    @property
    def key(self) -> str:
        """What tells it from others."""
        return f"{self.decision.id} {self.decision.is_removal}"

    @property
    def address(self) -> str:
        """Where the run shows the task."""
        return _address(self.decision.flow_execution_id, self.decision.task_name)

    @property
    def state(self) -> str:
        """The colour of what was decided."""
        states = {"approved": "completed", "reviewed": "running", "rejected": "failed", "asked": "awaiting"}
        return states.get(self.decision.kind, "queued")

    @property
    def glyph(self) -> str:
        """What stands beside the colour."""
        glyphs = {"approved": "✓", "reviewed": "●", "rejected": "✕", "asked": "◆", "removed": "−"}  # noqa: RUF001
        return glyphs.get(self.decision.kind, "+")

    @property
    def word(self) -> str:
        """What was done, before the tag where that is not said already."""
        if self.decision.is_removal:
            return f"took back {self.decision.tag}"
        return "asked for review" if self.decision.kind == "asked" else self.decision.tag

    @property
    def who(self) -> str:
        """Who decided."""
        return person_of(self.decision.who)

    @property
    def name(self) -> str:
        """Who decided, as the filter is told it."""
        return self.decision.who.partition(":")[2]

    @property
    def gone_by(self) -> str:
        """Who took it back, if somebody did."""
        return person_of(self.decision.gone_by) if self.decision.is_gone and not self.decision.is_removal else ""

    @property
    def answered(self) -> list[str]:
        """The tags that it took the place of."""
        return self.decision.instead_of or []

    @property
    def note(self) -> str:
        """What was written beside it."""
        return note_of(self.decision.metadata)


def _address(execution_id: UUID, task_name: str) -> str:
    return f"{reverse('execution-page', args=[execution_id])}?{urlencode({'task': task_name})}"


class OfReview(MemberPage):
    """What the page, its other side and its exports share."""

    section = "review"

    @cached_property
    def organizations(self) -> dict[UUID, Organization]:
        """The person's organizations by id, in the order of their names."""
        found = Organization.objects.filter(pk__in=self.actor.organization_ids or ()).order_by("name")
        return {organization.pk: organization for organization in found}

    @cached_property
    def filter(self) -> WaitingFilter:
        """Which tasks are wanted; what the address says wrongly is left out, and one of the `problems`."""
        query = self.request.GET
        flow, reason, name = query.get("flow", ""), query.get("reason", ""), query.get("task", "").strip()
        flow_id, known = as_uuid(flow), reason if reason in REASONS else ""
        possible = name[:_LONGEST_NAME].replace("\0", "")
        problems = {
            f"“{flow}” is not the id of a flow.": flow and not flow_id,
            f"“{reason}” is not a reason to wait.": reason != known,
            "No task is called like that.": name != possible,
        }
        return WaitingFilter(flow_id, known, possible, tuple(text for text, is_one in problems.items() if is_one))

    def rows(self, tasks: Sequence[WaitingTask]) -> list[WaitingRow]:
        """Look up what is shown beside tasks, in two queries."""
        tags = live_tags([(task.flow_execution_id, task.task_name) for task in tasks])
        flows = flows_of(task.flow_id for task in tasks)
        return [
            WaitingRow(
                task,
                flows[task.flow_id],
                [TagOfTask(tag) for tag in tags.get((task.flow_execution_id, task.task_name), ())],
                may_write(self.actor, task.organization_id, Scope.TAGS_WRITE),
            )
            for task in tasks
        ]


def live_tags(tasks: Collection[Task]) -> Mapping[Task, list[TaskTag]]:
    """Return the live tags of tasks of any executions, oldest first; one query."""
    found: dict[Task, list[TaskTag]] = defaultdict(list)
    if tasks:
        executions, names = zip(*tasks, strict=True)
        parameters = {"executions": array_of(map(str, executions)), "names": array_of(names)}
        for tag in TaskTag.objects.raw(_TAGS, parameters):
            found[tag.flow_execution_id, tag.task_name].append(tag)
    return found


def flows_of(ids: Iterable[UUID]) -> dict[UUID, Flow]:
    """Return flows by id, with their organizations; one query."""
    found: dict[UUID, Flow] = Flow.objects.select_related("organization").in_bulk(set(ids))
    return found


class ReviewSide(OfReview, LiveListPage):
    """One of the two sides of the page."""

    template_name = "pages/review.html"
    list_id = "review-list"
    show: str

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            show=self.show,
            organizations=self.organizations.values(),
            may_decide=any(may_write(self.actor, pk, Scope.TAGS_WRITE) for pk in self.organizations),
            sockets_port=settings.SOCKETS_PORT,
            **kwargs,
        )


class WaitingPage(ReviewSide):
    """What waits, the longest first."""

    list_template = "pages/review_waiting.html"
    show = "waiting"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found = worklist(self.actor, self.filter, SHOWN)
        flows = flows_of({*found.by_flow, *[task.flow_id for task in found.tasks]})
        return super().get_context_data(
            filter=self.filter,
            rows=self.rows(found.tasks),
            worklist=found,
            more=found.wanted - len(found.tasks),
            flows=sorted(
                ((flow, found.by_flow[pk]) for pk, flow in flows.items()), key=lambda pair: pair[0].display_name.lower()
            ),
            reasons=[("awaiting_input", "awaiting input"), ("requires_review", "requires review"), (TAGGED, "tagged")],
            list_template=self.list_template,
            looked_at=LOOKED_AT,
            query=_query(flow=self.filter.flow_id, reason=self.filter.reason, task=self.filter.name),
            ask_command=self._ask_command(found),
            **kwargs,
        )

    def _ask_command(self, found: Worklist) -> str:
        """Return a command that puts the newest run's first task onto the list; "" where there is no run yet."""
        if found.waiting or not self.organizations:
            return ""
        execution = _newest_execution(self.organizations)
        if execution is None:
            return ""
        version = execution.flow.versions.get(number=execution.flow_version)
        return _ASK.format(
            origin=self.origin,
            organization=self.organizations[execution.organization_id].slug,
            execution=execution.pk,
            task=json.dumps(version.definition["tasks"][0]["name"]).replace("'", "\\u0027"),
        )


def _newest_execution(organizations: Collection[UUID]) -> FlowExecution | None:
    """Return the newest run of the newest flow that has one, among the newest flows."""
    for flow in Flow.objects.filter(organization__in=organizations).newest_first()[:5]:
        runs = FlowExecution.objects.alive().of_flow(flow.pk).select_related("flow")
        newest: FlowExecution | None = runs.exclude(status="cancelled").order_by("-created_at", "-id").first()
        if newest:
            return newest
    return None


class DecidedPage(ReviewSide):
    """Who decided what, the newest first."""

    list_template = "pages/review_decided.html"
    show = "decided"

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the page; send on who comes by a place that is none."""
        cursor = request.GET.get("cursor")
        try:
            self.position = position_of(cursor) if cursor else None
        except BadRequest:
            return HttpResponseRedirect(f"{reverse('review-page')}?show=decided")
        return super().get(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        kind, by = self.request.GET.get("kind", ""), self.request.GET.get("by", "").strip().replace("\0", "")
        wanted = DecisionFilter(by, kind if kind in KINDS else "")
        page = decision_page(self.actor, wanted, self.position)
        flows = flows_of(decision.flow_id for decision in page.decisions)
        query = _query(show="decided", kind=wanted.kind, by=wanted.by)
        return super().get_context_data(
            filter=wanted,
            rows=[DecisionRow(decision, flows[decision.flow_id]) for decision in page.decisions],
            page=page,
            is_first=self.position is None,
            kinds=[(one, {"asked": "asked for review", "removed": "took back"}.get(one, one)) for one in KINDS],
            people=self._people(page),
            list_template=self.list_template,
            query=query,
            older=page.older and f"?{query}&{urlencode({'cursor': page.older.cursor})}",
            **kwargs,
        )

    def _people(self, page: DecisionPage) -> list[str]:
        """Return names that a filter can be told: colleagues, and whoever is on the page."""
        members = User.objects.filter(memberships__organization__in=self.organizations).distinct()
        names = set(members.order_by("username").values_list("username", flat=True)[:200])
        return sorted(names | {decision.who.partition(":")[2] for decision in page.decisions})


def review_page(request: HttpRequest) -> HttpResponseBase:
    """Show the side that the address names."""
    side = DecidedPage if request.GET.get("show") == "decided" else WaitingPage
    return side.as_view()(request)


EXPORTED = (
    "flow",
    "run_number",
    "task_name",
    "status",
    "waiting_since",
    "asked_by",
    "tags",
    "organization",
    "flow_id",
    "execution_id",
)


class ReviewExport(OfReview):
    """`/review/export.csv` and `.json`: what waits, as far as it is looked, and passes the filter of the page."""

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:  # type: ignore[override]
        if self.filter.problems:
            return refusal(self.filter.problems)
        tasks = worklist(self.actor, self.filter, 2 * LOOKED_AT * max(1, len(self.organizations))).tasks
        response = export_response(kwargs["file_type"], "waiting for review", EXPORTED, self._exported(tasks))
        ids = self.actor.organization_ids or ()
        self.record_export(Subject("worklist", text="waiting for review"), next(iter(ids)) if len(ids) == 1 else None)
        return response

    def _exported(self, tasks: Iterable[WaitingTask]) -> Iterator[Row]:
        for part in in_parts(tasks, PART):
            for row in self.rows(part):
                yield {
                    "flow": row.flow.display_name,
                    "run_number": row.task.run_number,
                    "task_name": row.task.task_name,
                    "status": row.task.status,
                    "waiting_since": row.task.since,
                    "asked_by": [tag.tag.created_by for tag in row.asking],
                    "tags": [f"{tag.tag.tag_type}:{tag.tag.tag}" for tag in row.tags],
                    "organization": row.flow.organization.slug,
                    "flow_id": str(row.flow.pk),
                    "execution_id": str(row.task.flow_execution_id),
                }


def _query(**pairs: object) -> str:
    return urlencode({name: value for name, value in pairs.items() if value})
