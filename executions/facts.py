"""What never changes about an execution: whose it is, of which flow, and the version that it is pinned to."""

from dataclasses import dataclass
from functools import lru_cache
from uuid import UUID

from rest_framework.exceptions import NotFound

from executions.definitions import Version, task_names
from executions.models import FlowExecution
from flowplatform.accounts.actors import Actor


@dataclass(frozen=True, slots=True)
class ExecutionFacts:
    """Facts that are remembered for good. Whether the execution was deleted is none: the write itself asks for it."""

    organization_id: UUID
    flow_id: UUID
    flow_version: int

    @property
    def version(self) -> Version:
        """The pinned version."""
        return self.flow_id, self.flow_version

    @property
    def task_names(self) -> frozenset[str]:
        """The names of the tasks that the pinned version defines."""
        return task_names([self.version])[self.version]


def facts_of(actor: Actor, execution_id: UUID) -> ExecutionFacts:
    """Return the facts of an execution; raise 404 if it is missing or foreign."""
    try:
        facts = _remembered(execution_id)
    except FlowExecution.DoesNotExist:
        raise NotFound from None
    if not actor.acts_in(facts.organization_id):
        raise NotFound
    return facts


@lru_cache(maxsize=10_000)
def _remembered(execution_id: UUID) -> ExecutionFacts:
    """Remember the facts of executions that workers report to; a missing one raises and is not remembered."""
    row = FlowExecution.objects.values_list("organization_id", "flow_id", "flow_version").get(pk=execution_id)
    return ExecutionFacts(*row)
