"""The tag batch: up to 100 operations on any number of executions, in order, all or none, in a few statements.

1. Lock the executions, sorted by id. Batches that touch the same execution wait here for each other, so identical ones
   at the same moment leave one live row, and batches in different orders cannot deadlock. Status batches go on.
2. Read the database's clock and the live tags that the batch names.
3. Play the operations in order on what was read.
4. Write what changed: one statement for the removed, one for the new rows.
5. Publish one event per flow.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import rfc8785
import uuid_utils.compat as uuid_utils
from django.db import connection
from rest_framework.exceptions import NotFound, PermissionDenied

from executions.definitions import refuse_unknown_tasks, task_names
from executions.models import ExecutionStatus, FlowExecution
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import Scope
from flowplatform.accounts.services import may_write
from flowplatform.errors import BadRequest, Unprocessable
from flowplatform.idempotency.services import RequestKey, once
from flowplatform.transactions import retried_transaction
from notifications import publish
from tags.models import TagStatus, TaskTag
from tags.schemas import MAX_OPERATIONS, TagOperation
from tags.serializers import Outcome, tag_answer

Identity = tuple[UUID, str, str, str, bytes]  # execution, task name, tag, type, digest of the metadata

_LIVE = """
    SELECT tag.*
    FROM unnest(%(executions)s::uuid[], %(names)s::text[], %(tags)s::text[], %(types)s::text[], %(digests)s::bytea[])
         AS wanted (flow_execution_id, task_name, tag, tag_type, metadata_digest)
    JOIN tags_tasktag AS tag USING (flow_execution_id, task_name, tag, tag_type, metadata_digest)
    WHERE tag.status = 'active'
"""


def change_task_tags(
    *, actor: Actor, operations: Sequence[TagOperation], key: RequestKey | None = None
) -> list[Outcome]:
    """Apply 1 to 100 operations in order, all or none; return what each one did.

    With a `key` that was answered before it returns what they did then, and nothing is written.

    Raises 400 for another operation than add and remove, and for a task name that the execution's version does not
    define (details name the indexes); 403 where the actor may not tag in an organization; 404 for an execution that is
    missing, deleted or foreign; 422 for metadata that has no canonical form.
    """
    _refuse_unknown_operations(operations)
    identities = [_identity(index, operation) for index, operation in enumerate(operations)]
    outcomes: list[Outcome] = orjson.loads(_change_once(key, actor, operations, identities))
    return outcomes


@retried_transaction
def _change_once(
    key: RequestKey | None, actor: Actor, operations: Sequence[TagOperation], identities: Sequence[Identity]
) -> bytes:
    return once(key, lambda: orjson.dumps(_change(actor, operations, identities)))


def _change(actor: Actor, operations: Sequence[TagOperation], identities: Sequence[Identity]) -> list[Outcome]:
    executions = _lock_executions(actor, {operation.flow_execution_id for operation in operations})
    _refuse_unknown_tasks(operations, executions)
    play = Play(actor, executions, _database_now(), _live_tags(identities))
    outcomes = [play.apply(*pair) for pair in zip(operations, identities, strict=True)]
    play.write()
    _publish(play.changed(), executions)
    return outcomes


def restore_task_tags(*, actor: Actor, tags: Sequence[TaskTag]) -> int:
    """Add removed tags again, as new rows, a hundred at a time; return how many. Those that stand are left alone.

    Tags of deleted executions cannot come back and are left out.
    """
    alive = [tag for tag in tags if tag.flow_execution.status != ExecutionStatus.DELETED]
    operations = [
        TagOperation(
            operation="add",
            flow_execution_id=tag.flow_execution_id,
            task_name=tag.task_name,
            tag=tag.tag,
            tag_type=tag.tag_type,
            tag_metadata=tag.tag_metadata,
        )
        for tag in alive
    ]
    outcomes: list[Outcome] = []
    for begin in range(0, len(operations), MAX_OPERATIONS):
        outcomes += change_task_tags(actor=actor, operations=operations[begin : begin + MAX_OPERATIONS])
    return outcomes.count("added")


class Play:
    """Operations played in memory on the rows that stand, and what has to be written in the end."""

    def __init__(
        self, actor: Actor, executions: dict[UUID, FlowExecution], now: datetime, live: dict[Identity, TaskTag]
    ) -> None:
        self._actor = actor
        self._executions = executions
        self._now = now
        self._live = live
        self._added: list[TaskTag] = []
        self._removed: list[TaskTag] = []

    def apply(self, operation: TagOperation, identity: Identity) -> Outcome:
        """Play one operation."""
        standing = self._live.get(identity)
        if operation.operation == "add":
            if standing:
                return "already_exists"
            self._live[identity] = tag = self._new(operation, identity)
            self._added.append(tag)
            return "added"
        if not standing:
            return "not_found"
        standing.status, standing.updated_at, standing.modified_by = TagStatus.DELETED, self._now, self._actor.name
        if standing not in self._added:  # one that was added by this batch is written as removed at once
            self._removed.append(standing)
        del self._live[identity]
        return "removed"

    def write(self) -> None:
        """Write the removed before the new: a tag that is added again takes the place of its removed row."""
        if self._removed:
            TaskTag.objects.filter(pk__in=[tag.pk for tag in self._removed]).update(
                status=TagStatus.DELETED, updated_at=self._now, modified_by=self._actor.name
            )
        if self._added:
            TaskTag.objects.bulk_create(self._added)

    def changed(self) -> list[TaskTag]:
        """Return the rows that the batch wrote."""
        return self._removed + self._added

    def _new(self, operation: TagOperation, identity: Identity) -> TaskTag:
        return TaskTag(
            id=uuid_utils.uuid7(),  # ids of one batch grow: they order rows of the same moment
            organization_id=self._executions[operation.flow_execution_id].organization_id,
            flow_execution_id=operation.flow_execution_id,
            task_name=operation.task_name,
            tag=operation.tag,
            tag_type=operation.tag_type,
            tag_metadata=operation.tag_metadata,
            metadata_digest=identity[-1],
            created_at=self._now,
            created_by=self._actor.name,
            updated_at=self._now,
            modified_by=self._actor.name,
        )


def _identity(index: int, operation: TagOperation) -> Identity:
    """Return what makes the tag itself; metadata takes part as the digest of its canonical JSON (RFC 8785)."""
    try:
        canonical = rfc8785.dumps(operation.tag_metadata)
    except rfc8785.CanonicalizationError as error:
        place = ["body", "tags", index, "tag_metadata"]
        raise Unprocessable([{"loc": place, "msg": str(error), "type": "not_canonical"}]) from None
    digest = hashlib.sha256(canonical).digest()
    return operation.flow_execution_id, operation.task_name, operation.tag, operation.tag_type, digest


def _refuse_unknown_operations(operations: Sequence[TagOperation]) -> None:
    wrong = [
        {"index": index, "operation": operation.operation}
        for index, operation in enumerate(operations)
        if operation.operation not in ("add", "remove")
    ]
    if wrong:
        raise BadRequest("An operation is either add or remove; nothing was written.", details=wrong)


def _lock_executions(actor: Actor, ids: set[UUID]) -> dict[UUID, FlowExecution]:
    rows = FlowExecution.objects.visible_to(actor).alive().filter(pk__in=ids).order_by("pk")
    executions = {execution.pk: execution for execution in rows.select_for_update(no_key=True)}
    if len(executions) < len(ids):
        raise NotFound
    for organization_id in {execution.organization_id for execution in executions.values()}:
        if not may_write(actor, organization_id, Scope.TAGS_WRITE):
            raise PermissionDenied("The role member or admin, or a token with the scope tags:write, is required.")
    return executions


def _refuse_unknown_tasks(operations: Sequence[TagOperation], executions: dict[UUID, FlowExecution]) -> None:
    versions = {pk: (execution.flow_id, execution.flow_version) for pk, execution in executions.items()}
    names = task_names(list(versions.values()))
    known = (names[versions[operation.flow_execution_id]] for operation in operations)
    refuse_unknown_tasks(zip((operation.task_name for operation in operations), known, strict=True))


def _database_now() -> datetime:
    """Return the database's clock, after the locks are held: the order of the trail must not hang on several hosts."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT clock_timestamp()")
        now: datetime = cursor.fetchone()[0]
    return now


def _live_tags(identities: Sequence[Identity]) -> dict[Identity, TaskTag]:
    columns = dict(
        zip(("executions", "names", "tags", "types", "digests"), map(list, zip(*identities, strict=True)), strict=True)
    )
    found = TaskTag.objects.raw(_LIVE, columns)
    return {
        (tag.flow_execution_id, tag.task_name, tag.tag, tag.tag_type, bytes(tag.metadata_digest)): tag for tag in found
    }


def _publish(changed: Sequence[TaskTag], executions: dict[UUID, FlowExecution]) -> None:
    """Tell of the changed rows, one event per flow; its execution is named where there is only one."""
    flows: dict[UUID, list[TaskTag]] = defaultdict(list)
    for tag in changed:
        flows[executions[tag.flow_execution_id].flow_id].append(tag)
    publish(*(_event(flow_id, tags) for flow_id, tags in flows.items()))


def _event(flow_id: UUID, tags: Sequence[TaskTag]) -> tuple[UUID, UUID, str, UUID | None, dict[str, Any]]:
    of = {tag.flow_execution_id for tag in tags}
    execution_id = next(iter(of)) if len(of) == 1 else None
    return tags[0].organization_id, flow_id, "task_tags.changed", execution_id, {"tags": [tag_answer(t) for t in tags]}
