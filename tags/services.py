"""The tag batch: up to 100 operations on any number of executions, in order, all or none, in a few statements.

1. Lock the executions, sorted by id. Batches that touch the same execution wait here for each other, so identical ones
   at the same moment leave one live row, and batches in different orders cannot deadlock. Status batches go on.
2. Read the live tags that the batch names.
3. Play the operations in order on what was read.
4. Write what changed, and one event per flow, by one statement.
"""

import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
import rfc8785
import uuid_utils.compat as uuid_utils
from django.db import connection
from rest_framework.exceptions import NotFound, PermissionDenied

from executions.definitions import refuse_unknown_tasks, task_names
from executions.facts import ExecutionFacts
from executions.models import ExecutionStatus, FlowExecution
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import Scope
from flowplatform.accounts.services import may_write
from flowplatform.encoding import array_of, encode, object_sql
from flowplatform.errors import BadRequest, Unprocessable
from flowplatform.idempotency.services import RequestKey, once
from flowplatform.transactions import retried_transaction
from notifications import publish
from tags.models import TagStatus, TaskTag
from tags.schemas import MAX_OPERATIONS, TagOperation
from tags.serializers import Outcome, TaskTagAnswer

Identity = tuple[UUID, str, str, str, bytes]  # execution, task name, tag, type, digest of the metadata

# One look into the unique index per identity. A plain join leaves the choice to the planner, and the plan that is right
# for an empty table stays in use while it grows.
_LIVE = """
    SELECT wanted.place, standing.id
    FROM unnest(%(executions)s::uuid[], %(names)s::text[], %(tags)s::text[], %(types)s::text[], %(digests)s::bytea[])
         WITH ORDINALITY AS wanted (flow_execution_id, task_name, tag, tag_type, metadata_digest, place)
    CROSS JOIN LATERAL (
        SELECT id FROM tags_tasktag AS tag
        WHERE tag.flow_execution_id = wanted.flow_execution_id AND tag.task_name = wanted.task_name
          AND tag.tag = wanted.tag AND tag.tag_type = wanted.tag_type AND tag.metadata_digest = wanted.metadata_digest
          AND tag.status = 'active'
        LIMIT 1
    ) AS standing
"""

# New rows are made from what the removal returns, so it comes first: a tag that is added again takes the place of its
# removed row in the unique index. The time is the database's, and the statement comes after the locks: the order of the
# trail does not hang on several clocks.
_CHANGE = """
    removed AS (
        UPDATE tags_tasktag SET status = 'deleted', updated_at = statement_timestamp(), modified_by = %(actor)s
        WHERE id = ANY(%(removed)s::uuid[])
        RETURNING *
    ), added AS (
        INSERT INTO tags_tasktag (
            id, organization_id, flow_execution_id, task_name, tag, tag_type, tag_metadata, metadata_digest, status,
            created_at, created_by, updated_at, modified_by
        )
        SELECT id, organization_id, flow_execution_id, task_name, tag, tag_type, tag_metadata, decode(digest, 'hex'),
               status, statement_timestamp(), %(actor)s, statement_timestamp(), %(actor)s
        FROM json_to_recordset(%(added)s::json) AS item (
            id uuid, organization_id uuid, flow_execution_id uuid, task_name text, tag text, tag_type text,
            tag_metadata json, digest text, status text
        )
        WHERE (SELECT count(*) FROM removed) >= 0
        RETURNING *
    ), changed AS (
        SELECT 0 AS place, * FROM removed UNION ALL SELECT 1, * FROM added
    )
"""
_EVENTS = f"""
    SELECT changed.organization_id, execution.flow_id, 'task_tags.changed' AS type,
           CASE WHEN count(DISTINCT changed.flow_execution_id) = 1
                THEN (array_agg(changed.flow_execution_id))[1] END AS flow_execution_id,
           json_build_object(
               'tags', json_agg({object_sql(TaskTagAnswer, "changed")} ORDER BY changed.place, changed.id)
           ) AS data
    FROM changed JOIN executions_flowexecution AS execution ON execution.id = changed.flow_execution_id
    GROUP BY changed.organization_id, execution.flow_id
"""  # noqa: S608  (made of our own names only)


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
    play = Play(executions, _live_tags(identities))
    outcomes = [play.apply(*pair) for pair in zip(operations, identities, strict=True)]
    _write(actor, play)
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
    """Operations played in memory on the tags that stand, and what has to be written in the end."""

    def __init__(self, executions: dict[UUID, ExecutionFacts], live: dict[Identity, UUID]) -> None:
        self._executions = executions
        self._live = live
        self._added: dict[UUID, dict[str, Any]] = {}
        self._removed: list[UUID] = []

    def apply(self, operation: TagOperation, identity: Identity) -> Outcome:
        """Play one operation."""
        if operation.operation == "add":
            if identity in self._live:
                return "already_exists"
            self._live[identity] = self._add(operation, identity)
            return "added"
        standing = self._live.pop(identity, None)
        if standing is None:
            return "not_found"
        if standing in self._added:  # one that was added by this batch is written as removed at once
            self._added[standing]["status"] = TagStatus.DELETED.value
        else:
            self._removed.append(standing)
        return "removed"

    def changes(self) -> dict[str, Any]:
        """Return what has to be written, as parameters of the statement; nothing if nothing has changed."""
        if not (self._added or self._removed):
            return {}
        return {"removed": self._removed, "added": encode(list(self._added.values())).decode()}

    def _add(self, operation: TagOperation, identity: Identity) -> UUID:
        pk = uuid_utils.uuid7()  # ids of one batch grow: they order rows of the same moment
        self._added[pk] = {
            "id": pk,
            "organization_id": self._executions[operation.flow_execution_id].organization_id,
            "flow_execution_id": operation.flow_execution_id,
            "task_name": operation.task_name,
            "tag": operation.tag,
            "tag_type": operation.tag_type,
            "tag_metadata": operation.tag_metadata,
            "digest": identity[-1].hex(),
            "status": TagStatus.ACTIVE.value,
        }
        return pk


def _write(actor: Actor, play: Play) -> None:
    """Write what changed, and tell of it in one event per flow; its execution is named where there is only one."""
    changes = play.changes()
    if changes:
        parameters = {"actor": actor.name, **changes}
        publish(selected={"change": _CHANGE, "query": _EVENTS, "parameters": parameters})


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
    rows = FlowExecution.objects.visible_to(actor).alive().filter(pk__in=ids).order_by("pk")
    facts = rows.select_for_update(no_key=True).values_list("pk", "organization_id", "flow_id", "flow_version")
    executions = {pk: ExecutionFacts(*fact) for pk, *fact in facts}
    if len(executions) < len(ids):
        raise NotFound
    for organization_id in {execution.organization_id for execution in executions.values()}:
        if not may_write(actor, organization_id, Scope.TAGS_WRITE):
            raise PermissionDenied("The role member or admin, or a token with the scope tags:write, is required.")
    return executions


def _refuse_unknown_tasks(operations: Sequence[TagOperation], executions: dict[UUID, ExecutionFacts]) -> None:
    names = task_names([execution.version for execution in executions.values()])
    known = {pk: names[execution.version] for pk, execution in executions.items()}
    refuse_unknown_tasks((operation.task_name, known[operation.flow_execution_id]) for operation in operations)


def _live_tags(identities: Sequence[Identity]) -> dict[Identity, UUID]:
    """Return the ids of the tags that stand, by identity."""
    executions, names, tags, types, digests = zip(*identities, strict=True)
    columns = {
        "executions": array_of(map(str, executions)),
        "names": array_of(names),
        "tags": array_of(tags),
        "types": array_of(types),
        "digests": array_of(f"\\x{digest.hex()}" for digest in digests),
    }
    with connection.cursor() as cursor:
        cursor.execute(_LIVE, columns)
        return {identities[place - 1]: pk for place, pk in cursor.fetchall()}
