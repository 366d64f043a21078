"""What never changes about an execution: whose it is, of which flow, and the version that it is pinned to."""

from collections.abc import Collection
from dataclasses import dataclass
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


_MOST_REMEMBERED = 10_000
_remembered: dict[UUID, ExecutionFacts] = {}


def facts_of(actor: Actor, execution_id: UUID) -> ExecutionFacts:
    """Return the facts of an execution; raise 404 if it is missing or foreign."""
    return facts_of_all(actor, [execution_id])[execution_id]


def facts_of_all(actor: Actor, execution_ids: Collection[UUID]) -> dict[UUID, ExecutionFacts]:
    """Return the facts of executions, one query for those that are not remembered; raise 404 for a missing or foreign.

    A missing execution is not remembered. A foreign one is asked for even if it is: else its 404 would come sooner.
    """
    # One look-up each: another thread may forget everything between a test and a read.
    remembered = {pk: facts for pk in execution_ids if (facts := _remembered.get(pk)) is not None}
    known = {pk: facts for pk, facts in remembered.items() if actor.acts_in(facts.organization_id)}
    if unknown := [pk for pk in execution_ids if pk not in known]:
        rows = FlowExecution.objects.visible_to(actor).filter(pk__in=unknown)
        found = {pk: ExecutionFacts(*row) for pk, *row in rows.values_list("pk", *ExecutionFacts.__slots__)}
        if len(_remembered) + len(found) > _MOST_REMEMBERED:
            _remembered.clear()
        _remembered.update(found)
        known |= found
    if len(known) < len(execution_ids):
        raise NotFound
    return known
