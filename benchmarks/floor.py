"""The floor: the same batches written by bare SQL over one connection. What speaks HTTP to clients cannot be faster.

A status batch is the very statement that the platform ran a moment before, caught on its way to the database
(`benchmarks.stage`). A tag batch is the lock of its execution, the look-up of live tags, the insert and the event, sent
together. Both are one way to the database and back, and one transaction. What a request has besides is left out: HTTP,
the token, validation, the limits of a definition, the hint to the relay, the answer.
"""

import hashlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import orjson
import psycopg
import uuid_utils.compat as uuid_utils

from benchmarks.sample import Sample, Stopwatch, client
from benchmarks.workload import STATUS, TAG_TYPE, Execution, Work
from flowplatform import tenancy
from flowplatform.encoding import array_of

_LOCK = """
    SELECT id, organization_id, flow_id FROM executions_flowexecution
    WHERE id = %(execution)s AND status <> 'deleted' FOR NO KEY UPDATE
"""

_LOOK_UP = """
    SELECT tag.*
    FROM unnest(%(names)s::text[]) AS wanted (task_name)
    JOIN tags_tasktag AS tag USING (task_name)
    WHERE tag.flow_execution_id = %(execution)s AND tag.tag = %(tag)s AND tag.tag_type = %(type)s
      AND tag.metadata_digest = %(digest)s AND tag.status = 'active'
"""

_INSERT = """
    INSERT INTO tags_tasktag (
        id, organization_id, flow_execution_id, task_name, tag, tag_type, tag_metadata, metadata_digest, status,
        created_at, created_by, updated_at, modified_by
    )
    SELECT wanted.id, %(organization)s, %(execution)s, wanted.task_name, %(tag)s, %(type)s, NULL, %(digest)s, 'active',
           clock_timestamp(), %(actor)s, clock_timestamp(), %(actor)s
    FROM unnest(%(ids)s::uuid[], %(names)s::text[]) AS wanted (id, task_name)
"""

_EVENT = """
    INSERT INTO notifications_event (organization_id, flow_id, type, flow_execution_id, data, created_at)
    VALUES (%(organization)s, %(flow)s, 'task_tags.changed', %(execution)s, %(data)s::json, clock_timestamp())
"""

_NO_METADATA = hashlib.sha256(b"null").digest()


class Writer:
    """Writes batches over one connection."""

    def __init__(self, job: Any) -> None:
        self._work = Work.of(job)
        self._batches, self._tags = self._work.batches(), self._work.tags()
        self._organization, self._actor = job["organization"], job["actor"]
        self._status_sql, self._status_parameters = job["status_sql"], job["status_parameters"]
        # Row-level security holds for the floor, too, and is told once whose rows to show: everybody's.
        shown = f"-c {tenancy.SETTING}={tenancy.EVERYBODY}"
        self._connection = psycopg.connect(job["database"], autocommit=True, prepare_threshold=1, options=shown)
        self._cursor = self._connection.cursor()

    def write(self) -> None:
        """Write the next batch."""
        execution, names = next(self._batches)
        if self._work.kind == "status":
            self._write_statuses(execution, names)
        else:
            self._write_tags(execution, names, next(self._tags))

    def _write_statuses(self, execution: Execution, names: list[str]) -> None:
        parameters = {
            **self._status_parameters,
            "execution": execution.id,
            "flow": execution.flow_id,
            "uids": array_of(str(uuid_utils.uuid7()) for _ in names),
            "names": array_of(names),
            "statuses": array_of([STATUS] * len(names)),
        }
        if not self._cursor.execute(self._status_sql, parameters).fetchall():
            raise RuntimeError("The statement of a status batch has written nothing.")

    def _write_tags(self, execution: Execution, names: list[str], tag: str) -> None:
        ids = [uuid_utils.uuid7() for _ in names]
        parameters = {
            "execution": execution.id,
            "flow": execution.flow_id,
            "organization": self._organization,
            "actor": self._actor,
            "ids": ids,
            "names": names,
            "tag": tag,
            "type": TAG_TYPE,
            "digest": _NO_METADATA,
            "data": orjson.dumps({"tags": list(self._rows(execution, zip(ids, names, strict=True), tag))}).decode(),
        }
        with self._connection.pipeline():  # and with autocommit, one transaction
            for statement in (_LOCK, _LOOK_UP, _INSERT, _EVENT):
                self._cursor.execute(statement, parameters)

    def _rows(self, execution: Execution, tasks: Any, tag: str) -> Iterator[dict[str, Any]]:
        """Yield the tags as the event tells of them."""
        now = datetime.now(UTC)
        for uid, name in tasks:
            yield {
                "id": uid,
                "flow_execution_id": execution.id,
                "task_name": name,
                "tag": tag,
                "tag_type": TAG_TYPE,
                "tag_metadata": None,
                "status": "active",
                "created_at": now,
                "created_by": self._actor,
                "updated_at": now,
                "modified_by": self._actor,
                "organization_id": self._organization,
            }


def measure(job: Any, begin: Callable[[], Stopwatch]) -> Sample:
    """Write one batch after the other until the time is over."""
    writer = Writer(job)
    watch = begin()
    now = perf_counter()
    while watch.goes_on(now):
        before = now
        writer.write()
        watch.took(before, now := perf_counter())
    return watch.stop()


if __name__ == "__main__":
    client(measure)
