"""`/executions/{id}/`: one run and its tasks, live or as it stood at a moment."""

from typing import Any

from django.conf import settings
from django.shortcuts import get_object_or_404

from executions.models import FlowExecution
from flowplatform.pages.base import MemberPage


class ExecutionPage(MemberPage):
    """One execution: its timeline, its graph, its history, and the panel of a task."""

    template_name = "pages/execution.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        executions = FlowExecution.objects.visible_to(self.actor).alive().select_related("flow", "organization")
        execution = get_object_or_404(executions, pk=kwargs["flow_execution_id"])
        return super().get_context_data(execution=execution, sockets_port=settings.SOCKETS_PORT, **kwargs)
