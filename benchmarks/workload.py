"""What the benchmark sends: the same batches for the servers and for the bare SQL. Needs no Django, and imports fast.

200 executions of ten flows with 100 tasks each. A batch names distinct tasks of one random execution: a status batch
gives them a status, a tag batch adds a tag that no task has had before.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Literal, NamedTuple, Self

import orjson

Kind = Literal["status", "tag"]

KINDS: tuple[Kind, ...] = ("status", "tag")
SIZES = (1, 10, 100)
FLOWS = 10
EXECUTIONS = 200
TASKS = 100
STATUS = "running"
TAG_TYPE = "review"

_PREPARED = 500  # requests, made before anything is measured and sent in turn
_PLACE = b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"  # of tag or key in a prepared request: not in JSON


class Execution(NamedTuple):
    """An execution to write to."""

    id: str
    flow_id: str


@dataclass(frozen=True)
class Work:
    """Which batches are made, of what size, and the seed of their order."""

    kind: Kind
    size: int
    executions: Sequence[Execution]
    seed: int
    path: str = ""  # over HTTP, with {execution}
    task: str = "task-{}"
    keyed: bool = False  # every status batch with an Idempotency-Key of its own

    @classmethod
    def of(cls, job: Any) -> Self:
        """Return the work of a job that came as JSON."""
        return cls(**{**job["work"], "executions": [Execution(*each) for each in job["work"]["executions"]]})

    def batches(self) -> Iterator[tuple[Execution, list[str]]]:
        """Yield an execution and the names of its tasks, without end."""
        order = random.Random(self.seed)
        names = [self.task.format(index) for index in range(TASKS)]
        while True:
            yield order.choice(self.executions), order.sample(names, self.size)

    def tags(self) -> Iterator[str]:
        """Yield tags, or keys, of equal length that nobody else makes, without end."""
        return (f"{self.seed:06x}{number:06x}" for number in count())

    def requests(self, token: str) -> Iterator[bytes]:
        """Yield whole HTTP requests, without end; making the next one costs next to nothing."""
        batches = self.batches()
        prepared = [_request(self, *next(batches), token) for _ in range(_PREPARED)]
        tags = self.tags()
        is_marked = self.kind == "tag" or self.keyed
        while True:
            for request in prepared:
                yield request.replace(_PLACE, next(tags).encode()) if is_marked else request


def _request(work: Work, execution: Execution, names: Sequence[str], token: str) -> bytes:
    """Return a request as it goes over the wire."""
    if work.kind == "status":
        method, items = "POST", [{"task_name": name, "status": STATUS} for name in names]
        body = orjson.dumps({"statuses": items})
    else:
        method, mark = "PATCH", "@" * len(_PLACE)
        operations = [
            {
                "operation": "add",
                "flow_execution_id": execution.id,
                "task_name": name,
                "tag": mark,
                "tag_type": TAG_TYPE,
            }
            for name in names
        ]
        body = orjson.dumps({"tags": operations}).replace(mark.encode(), _PLACE)
    key = f"Idempotency-Key: {_PLACE.decode()}\r\n" if work.keyed else ""
    head = (
        f"{method} {work.path.format(execution=execution.id)} HTTP/1.1\r\nHost: 127.0.0.1\r\n{key}"
        f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
