"""`/executions/{id}/`: one run and its tasks, live or as it stood at a moment."""

from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.dateparse import parse_datetime
from django.utils.functional import cached_property

from executions.models import FlowExecution, FlowVersion
from flowplatform.accounts.models import Scope
from flowplatform.accounts.services import may_write
from flowplatform.encoding import encode
from flowplatform.errors import envelope
from flowplatform.pages.base import MemberPage, script_json
from flowplatform.pages.snapshots import snapshot


def moment_of(request: HttpRequest) -> datetime | None:
    """Return the moment that `?at=` names (ISO 8601; UTC where it names no zone); `None` for now and for nonsense."""
    try:
        moment = parse_datetime(request.GET.get("at", ""))
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC)


class OfExecution(MemberPage):
    """What is shown of one execution to its organization's people."""

    @cached_property
    def execution(self) -> FlowExecution:
        """The execution; 404 if it is missing, deleted or foreign."""
        executions = FlowExecution.objects.visible_to(self.actor).alive().select_related("flow__organization")
        found: FlowExecution = get_object_or_404(executions, pk=self.kwargs["flow_execution_id"])
        return found


class ExecutionPage(OfExecution):
    """One execution: its timeline, its graph, its history, and the panel of a task."""

    template_name = "pages/execution.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        execution = self.execution
        version = FlowVersion.objects.get(flow_id=execution.flow_id, number=execution.flow_version)
        return super().get_context_data(
            execution=execution,
            several_organizations=len(self.actor.organization_ids or ()) > 1,
            may_tag=may_write(self.actor, execution.organization_id, Scope.TAGS_WRITE),
            sockets_port=settings.SOCKETS_PORT,
            plan=script_json(version.definition["tasks"]),
            snapshot=script_json(snapshot(execution)),
            **kwargs,
        )


class ExecutionSnapshot(OfExecution):
    """`/executions/{id}/snapshot?at=`: what the page is made of, again or as of a moment."""

    def handle_no_permission(self) -> HttpResponse:  # type: ignore[override]
        """Tell a script, which cannot be sent to the sign-in, that nobody is signed in."""
        body = envelope(self.request, message="Sign in again.", code="unauthenticated")
        return HttpResponse(encode(body), content_type="application/json", status=401)

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse(encode(snapshot(self.execution, moment_of(request))), content_type="application/json")
