"""The tag batch: up to 100 operations on any number of executions, in order, all or none, in a few statements.

1. Lock the executions, sorted by id. Batches that touch the same execution wait here for each other, so identical ones
   at the same moment leave one live row, and batches in different orders cannot deadlock. Status batches go on.
2. Refuse what somebody else has overtaken; read the live tags that the batch names, and the time.
3. Play the operations in order on what was read.
4. Write what changed, one event per flow, and one entry of the audit record per organization, by one statement.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

import orjson
import rfc8785
import uuid_utils.compat as uuid_utils
from django.db import connection
from rest_framework.exceptions import AuthenticationFailed, PermissionDenied

from executions.definitions import refuse_unknown_tasks, task_names
from executions.facts import ExecutionFacts, facts_of_all
from executions.locks import hold_executions
from executions.models import ExecutionStatus
from flowplatform import metrics
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import Scope
from flowplatform.accounts.services import TOKEN_HOLDS, may_write, token_holds
from flowplatform.audit.authors import NOWHERE, Author, Origin
from flowplatform.audit.vocabulary import Action
from flowplatform.audit.writing import ENTRIES, encoded
from flowplatform.encoding import array_of, encode
from flowplatform.errors import BadRequest, Unprocessable
from flowplatform.idempotency.services import RequestKey, once
from flowplatform.transactions import certain, retried_transaction
from notifications import publish
from tags.auditing import entries
from tags.expectations import refuse_if_changed
from tags.models import TagStatus, TaskTag
from tags.schemas import MAX_OPERATIONS, ExpectedTags, TagOperation
from tags.serializers import Outcome, tag_answer

Identity = tuple[UUID, str, str, str, bytes]  # execution, task name, tag, type, digest of the metadata

_ACTIVE, _REMOVED = TagStatus.ACTIVE.value, TagStatus.DELETED.value

# One look into the unique index per identity. A plain join leaves the choice to the planner, and the plan that is right
# for an empty table stays in use while it grows. The time comes along because the locks are held by now: the order of
# the trail does not hang on several clocks.
_LIVE = f"""
    SELECT statement_timestamp(), {TOKEN_HOLDS}, array_agg(wanted.place), array_agg(standing.id)
    FROM unnest(
        %(organizations)s::uuid[], %(executions)s::uuid[], %(names)s::text[], %(tags)s::text[], %(types)s::text[],
        %(digests)s::bytea[]
    ) WITH ORDINALITY AS wanted (organization_id, flow_execution_id, task_name, tag, tag_type, metadata_digest, place)
    CROSS JOIN LATERAL (
        SELECT id FROM tags_tasktag AS tag
        WHERE tag.organization_id = wanted.organization_id
          AND tag.flow_execution_id = wanted.flow_execution_id AND tag.task_name = wanted.task_name
          AND tag.tag = wanted.tag AND tag.tag_type = wanted.tag_type AND tag.metadata_digest = wanted.metadata_digest
          AND tag.status = 'active'
        LIMIT 1
    ) AS standing
"""  # noqa: S608  (made of our own names only)

# One statement for removals, additions, events and the audit record. New rows are made after the removal is counted: a
# tag that is added again takes the place of its removed row in the unique index. Where nothing is removed this is left
# out: the database would plan the statement anew every time.
_ADDED = """
    added AS (
        INSERT INTO tags_tasktag (
            id, organization_id, flow_execution_id, task_name, tag, tag_type, tag_metadata, metadata_digest, status,
            created_at, created_by, updated_at, modified_by
        )
        SELECT id, organization_id, flow_execution_id, task_name, tag, tag_type, tag_metadata::json, digest, status,
               %(now)s, %(actor)s, %(now)s, %(actor)s
        FROM unnest(
            %(ids)s::uuid[], %(organizations)s::uuid[], %(executions)s::uuid[], %(names)s::text[], %(tags)s::text[],
            %(types)s::text[], %(metadata)s::text[], %(digests)s::bytea[], %(statuses)s::text[]
        ) AS item (id, organization_id, flow_execution_id, task_name, tag, tag_type, tag_metadata, digest, status)
        {only}
    )
"""
_ADD = _ADDED.format(only="")
_REMOVE_AND_ADD = f"""
    removed AS (
        UPDATE tags_tasktag SET status = 'deleted', updated_at = %(now)s, modified_by = %(actor)s
        WHERE id = ANY(%(removed)s::uuid[])
        RETURNING id
    ), {_ADDED.format(only="WHERE (SELECT count(*) FROM removed) >= 0")}
"""  # noqa: S608  (made of our own names only)
_AUDITED = f", audited AS ({ENTRIES})"
_EVENTS = """
    SELECT organization_id, flow_id, 'task_tags.changed' AS type, flow_execution_id, data::json
    FROM unnest(
        %(event_organizations)s::uuid[], %(event_flows)s::uuid[], %(event_executions)s::uuid[], %(event_data)s::text[]
    ) AS event (organization_id, flow_id, flow_execution_id, data)
"""

_batch_items = metrics.batch_items.labels("tag")


@dataclass(frozen=True, slots=True)
class _Batch:
    """What somebody asks for, and how the audit record names them and it."""

    actor: Actor
    operations: Sequence[TagOperation]
    identities: Sequence[Identity]
    expected: Sequence[ExpectedTags]
    author: Author
    action: Action


def change_task_tags(
    *,
    actor: Actor,
    operations: Sequence[TagOperation],
    expected: Sequence[ExpectedTags] = (),
    key: RequestKey | None = None,
    origin: Origin = NOWHERE,
    action: Action = Action.TAGS_CHANGED,
) -> list[Outcome]:
    """Apply 1 to 100 operations in order, all or none; return what each one did.

    With a `key` that was answered before it returns what they did then, and nothing is written. With `expected` they
    apply only if nobody changed these tags since the actor looked at them. The audit record tells of it as `action`,
    asked for from `origin`.

    Raises 400 for another operation than add and remove, and for a task name that the execution's version does not
    define (details name the indexes); 403 where the actor may not tag in an organization; 404 for an execution that is
    missing, deleted or foreign; 401 if the actor's token has ended meanwhile; 409 if other tags than the expected ones
    stand (details show them); 422 for metadata without a canonical form.
    """
    _refuse_unknown_operations(operations)
    identities = [_identity(index, operation) for index, operation in enumerate(operations)]
    batch = _Batch(actor, operations, identities, expected, actor.as_author(origin), action)
    change = Change(batch)
    outcomes: list[Outcome] = orjson.loads(certain(partial(change.write, key), change.find))
    _batch_items.observe(len(operations))
    return outcomes


class Change:
    """A batch that is written once, and can be found again."""

    def __init__(self, batch: _Batch) -> None:
        self._batch = batch
        self._play: Play | None = None

    @retried_transaction
    def write(self, key: RequestKey | None) -> bytes:
        """Apply the batch, once per key, and return the outcomes, encoded."""
        if key and not token_holds(self._batch.actor):  # else the change itself asks
            raise AuthenticationFailed
        return once(key, self._write)

    def find(self) -> bytes | None:
        """Return the outcomes if this batch, and no repetition of it, was written."""
        return orjson.dumps(self._play.outcomes) if self._play and self._play.is_written() else None

    def _write(self) -> bytes:
        batch = self._batch
        named = {operation.flow_execution_id for operation in batch.operations}
        executions = _lock_executions(batch.actor, named | {one.flow_execution_id for one in batch.expected})
        _refuse_unknown_tasks(batch.operations, executions)
        refuse_if_changed(batch.expected)
        now, live = _live_tags(batch.actor, batch.identities, executions)
        self._play = Play(batch, now, executions, live)
        self._play.play()
        self._play.write()
        return orjson.dumps(self._play.outcomes)


def restore_task_tags(*, actor: Actor, tags: Sequence[TaskTag], origin: Origin = NOWHERE) -> int:
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
        part = operations[begin : begin + MAX_OPERATIONS]
        outcomes += change_task_tags(actor=actor, operations=part, origin=origin, action=Action.TAGS_RESTORED)
    return outcomes.count("added")


class Play:
    """Operations played in memory on the tags that stand, and then what has to be written."""

    def __init__(
        self, batch: _Batch, now: datetime, executions: dict[UUID, ExecutionFacts], live: dict[Identity, UUID]
    ) -> None:
        self._batch = batch
        self._now = now
        self._executions = executions
        self._live = live
        self._added: dict[UUID, dict[str, Any]] = {}  # as answers show them
        self._digests: list[bytes] = []  # of those
        self._removed: list[UUID] = []
        self.outcomes: list[Outcome] = []

    def play(self) -> None:
        """Play every operation, in order."""
        batch = self._batch
        self.outcomes = [self._apply(*pair) for pair in zip(batch.operations, batch.identities, strict=True)]

    def is_written(self) -> bool:
        """Ask the database whether the changes are there, of which it has all or none."""
        if self._added:
            return TaskTag.objects.filter(pk=next(iter(self._added))).exists()
        if not self._removed:
            return True
        removed = TaskTag.objects.filter(pk=self._removed[0], status=_REMOVED)
        return removed.filter(updated_at=self._now, modified_by=self._batch.actor.name).exists()

    def write(self) -> None:
        """Write what changed, and tell of it in one event per flow; its execution is named where there is only one."""
        removed = list(self._now_removed())
        changed = [*removed, *self._added.values()]
        if not changed:
            return
        by_flow: dict[tuple[UUID, UUID], list[dict[str, Any]]] = {}
        for tag in changed:
            facts = self._executions[tag["flow_execution_id"]]
            by_flow.setdefault((facts.organization_id, facts.flow_id), []).append(tag)
        executions = [{tag["flow_execution_id"] for tag in tags} for tags in by_flow.values()]
        parameters = {
            "now": self._now,
            "actor": self._batch.actor.name,
            "removed": array_of(map(str, self._removed)),
            **self._columns(),
            "event_organizations": array_of(str(organization_id) for organization_id, _ in by_flow),
            "event_flows": array_of(str(flow_id) for _, flow_id in by_flow),
            "event_executions": array_of(str(*ids) if len(ids) == 1 else None for ids in executions),
            "event_data": array_of(encode({"tags": tags}).decode() for tags in by_flow.values()),
            "audit": self._audited(removed),
        }
        change = (_REMOVE_AND_ADD if self._removed else _ADD) + _AUDITED
        publish(selected={"change": change, "query": _EVENTS, "parameters": parameters})

    def _apply(self, operation: TagOperation, identity: Identity) -> Outcome:
        if operation.operation == "add":
            if identity in self._live:
                return "already_exists"
            self._live[identity] = self._add(operation, identity)
            return "added"
        standing = self._live.pop(identity, None)
        if standing is None:
            return "not_found"
        if standing in self._added:  # one that was added by this batch is written as removed at once
            self._added[standing]["status"] = _REMOVED
        else:
            self._removed.append(standing)
        return "removed"

    def _audited(self, removed: Sequence[dict[str, Any]]) -> str:
        """Return the entries of the audit record: what was added and taken back at once is both."""
        added = list(self._added.values())
        at_once = [tag for tag in added if tag["status"] == _REMOVED]
        batch = self._batch
        return encoded(*entries(batch.action, batch.author, added=added, removed=[*removed, *at_once]))

    def _add(self, operation: TagOperation, identity: Identity) -> UUID:
        pk = uuid_utils.uuid7()  # ids of one batch grow: they order rows of the same moment
        self._added[pk] = {
            "id": pk,
            "flow_execution_id": operation.flow_execution_id,
            "task_name": operation.task_name,
            "tag": operation.tag,
            "tag_type": operation.tag_type,
            "tag_metadata": operation.tag_metadata,
            "status": _ACTIVE,
            "created_at": self._now,
            "created_by": self._batch.actor.name,
            "updated_at": self._now,
            "modified_by": self._batch.actor.name,
            "organization_id": self._executions[operation.flow_execution_id].organization_id,
        }
        self._digests.append(identity[-1])
        return pk

    def _now_removed(self) -> Iterator[dict[str, Any]]:
        """Yield the tags that are removed as they will be, oldest first. Their executions are locked: they stay so."""
        rows = TaskTag.objects.filter(pk__in=self._removed).order_by("id") if self._removed else ()
        for tag in rows:
            tag.status, tag.updated_at, tag.modified_by = _REMOVED, self._now, self._batch.actor.name
            yield tag_answer(tag)

    def _columns(self) -> dict[str, str]:
        """Return the columns of what was added."""
        tags = self._added.values()
        return {
            "ids": array_of(map(str, self._added)),
            "organizations": array_of(str(tag["organization_id"]) for tag in tags),
            "executions": array_of(str(tag["flow_execution_id"]) for tag in tags),
            "names": array_of(tag["task_name"] for tag in tags),
            "tags": array_of(tag["tag"] for tag in tags),
            "types": array_of(tag["tag_type"] for tag in tags),
            "metadata": array_of(_json_or_null(tag["tag_metadata"]) for tag in tags),
            "digests": array_of(map(_bytea, self._digests)),
            "statuses": array_of(tag["status"] for tag in tags),
        }


def _identity(index: int, operation: TagOperation) -> Identity:
    """Return what makes the tag itself; metadata takes part as the digest of its canonical JSON (RFC 8785)."""
    try:
        canonical = b"null" if operation.tag_metadata is None else rfc8785.dumps(operation.tag_metadata)
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


def _lock_executions(actor: Actor, ids: set[UUID]) -> dict[UUID, ExecutionFacts]:
    executions = facts_of_all(actor, ids)
    hold_executions(ids)
    for organization_id in {execution.organization_id for execution in executions.values()}:
        if not may_write(actor, organization_id, Scope.TAGS_WRITE):
            raise PermissionDenied("The role member or admin, or a token with the scope tags:write, is required.")
    return executions


def _refuse_unknown_tasks(operations: Sequence[TagOperation], executions: dict[UUID, ExecutionFacts]) -> None:
    names = task_names([execution.version for execution in executions.values()])
    known = {pk: names[execution.version] for pk, execution in executions.items()}
    refuse_unknown_tasks((operation.task_name, known[operation.flow_execution_id]) for operation in operations)


def _live_tags(
    actor: Actor, identities: Sequence[Identity], facts: dict[UUID, ExecutionFacts]
) -> tuple[datetime, dict[Identity, UUID]]:
    """Return the time of the change, and the ids of the tags that stand by identity; raise 401 for an ended token."""
    executions, names, tags, types, digests = zip(*identities, strict=True)
    parameters = {
        "token": actor.token_id,
        "organizations": array_of(str(facts[execution].organization_id) for execution in executions),
        "executions": array_of(map(str, executions)),
        "names": array_of(names),
        "tags": array_of(tags),
        "types": array_of(types),
        "digests": array_of(map(_bytea, digests)),
    }
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, parameters)
        now, holds, places, ids = cursor.fetchone()
    if not holds:
        raise AuthenticationFailed
    standing = zip(places or (), ids or (), strict=True)
    return now, {identities[place - 1]: pk for place, pk in standing}


def _bytea(digest: bytes) -> str:
    return f"\\x{digest.hex()}"


def _json_or_null(value: Any) -> str | None:
    return None if value is None else encode(value).decode()
