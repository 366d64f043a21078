"""The ledger: every write that was sent, and what is known of each: that it was done, that it was not, or neither."""

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, pairwise
from typing import Any, Literal
from uuid import uuid4

from tests.faults.client import Answer, Client

Outcome = Literal["acknowledged", "refused", "unknown"]

PERSISTENCE = 40.0  # seconds that a client goes on asking with the same key
_PAUSE = 0.1  # between two attempts. `Retry-After` says 2 s: an impatient client finds more

_numbers = count(1)


@dataclass
class StatusBatch:
    """One batch of statuses. Its marker is the status of all of its tasks, and of no other batch's."""

    execution_id: str
    tasks: Sequence[str]
    marker: str = field(default_factory=lambda: f"batch {next(_numbers)}")
    outcome: Outcome = "unknown"
    ids: Sequence[str] = ()


@dataclass
class Seen:
    """One answer, and when it came."""

    at: float
    answer: Answer


class Ledger:
    """What all writers of a trial together have sent and heard."""

    def __init__(self) -> None:
        self.status_batches: list[StatusBatch] = []
        self.tags: dict[str, set[tuple[str, str]]] = {}  # live ones by execution: task and tag
        self.acknowledged_tag_batches = 0
        self.repeated = 0  # requests that were asked again with the same key
        self.seen: list[Seen] = []
        self.problems: list[str] = []
        self._lock = threading.Lock()

    def note(self, answer: Answer) -> Answer:
        with self._lock:
            self.seen.append(Seen(time.monotonic(), answer))
        return answer

    @property
    def acknowledged(self) -> int:
        """How many batches were answered with 200."""
        return self.acknowledged_tag_batches + sum(one.outcome == "acknowledged" for one in self.status_batches)

    @property
    def unknown(self) -> int:
        """How many batches nobody knows about: sent without a key, and the answer was lost."""
        return sum(one.outcome == "unknown" for one in self.status_batches)

    def statuses(self) -> Counter[int]:
        """Count the answers by status; 0 are those that were lost."""
        return Counter(one.answer.status for one in self.seen)

    def longest(self, *statuses: int) -> float:
        """Return the seconds of the longest answer, or of the longest with one of these statuses."""
        return max(
            (one.answer.seconds for one in self.seen if not statuses or one.answer.status in statuses), default=0
        )

    def last_failure(self) -> float:
        """Return when the last answer came that was no 200."""
        return max((one.at for one in self.seen if one.answer.status != 200), default=0.0)

    def longest_silence(self) -> float:
        """Return the longest time without any acknowledged write, in seconds."""
        moments = sorted(one.at for one in self.seen if one.answer.status == 200)
        return max((later - earlier for earlier, later in pairwise(moments)), default=0.0)


class Writer:
    """One client that writes, does what the contract asks of clients, and keeps the ledger."""

    def __init__(self, ledger: Ledger, ports: Sequence[int], token: str) -> None:
        self._ledger = ledger
        self._client = Client(ports, token)
        self._order = 0

    def report(self, execution_id: str, tasks: Sequence[str], *, with_key: bool = True) -> StatusBatch:
        """Report one batch. With a key it is repeated until it is acknowledged; without one it is sent once."""
        batch = StatusBatch(execution_id, tasks)
        self._ledger.status_batches.append(batch)
        path = f"/api/flow-executions/{execution_id}/task-status"
        body = {"statuses": [{"task_name": task, "status": batch.marker} for task in tasks]}
        answer = self._until_known("POST", path, body) if with_key else self._once("POST", path, body)
        if answer.status == 200:
            batch.outcome, batch.ids = "acknowledged", [status["id"] for status in answer.body]
        elif not answer.is_lost:
            batch.outcome = "refused"
        return batch

    def tag(self, execution_id: str, operations: Sequence[tuple[str, str, str]]) -> None:
        """Change tags by one batch of (operation, task, tag), until it is acknowledged.

        The execution's tags are this writer's alone: then what each operation has to answer is known beforehand.
        """
        live = self._ledger.tags.setdefault(execution_id, set())
        after = set(live)
        expected = [_play(after, *operation) for operation in operations]
        answer = self._until_known("PATCH", "/api/task-tags", tag_body(execution_id, operations))
        if answer.status != 200:
            self._ledger.problems.append(f"a tag batch was never acknowledged: {answer}")
            return
        found = [tag["status"] for tag in answer.body["tags"]]
        if found != expected:
            self._ledger.problems.append(f"tag operations answered {found} instead of {expected}")
        self._ledger.tags[execution_id] = after
        self._ledger.acknowledged_tag_batches += 1

    def write_something(self, execution_id: str, tasks: Sequence[str]) -> None:
        """Write the next thing of a mixture: statuses with and without a key, and tags."""
        self._order += 1
        if self._order % 4 == 0:
            tag = f"tag {self._order // 12}"
            operations = [("add", task, tag) for task in tasks[:3]] + [("remove", tasks[0], f"tag {self._order // 24}")]
            self.tag(execution_id, operations)
        else:
            self.report(execution_id, tasks, with_key=self._order % 2 == 0)

    def close(self) -> None:
        self._client.close()

    def _once(self, method: str, path: str, body: object, **headers: str) -> Answer:
        return self._ledger.note(self._client(method, path, body, **headers))

    def _until_known(self, method: str, path: str, body: object) -> Answer:
        headers = {"Idempotency-Key": uuid4().hex}
        deadline = time.monotonic() + PERSISTENCE
        while True:
            answer = self._once(method, path, body, **headers)
            # 409: the first attempt, whose answer was lost, still runs.
            if not (answer.is_lost or answer.status in (503, 409)) or time.monotonic() > deadline:
                return answer
            self._ledger.repeated += 1
            time.sleep(_PAUSE)


def tag_body(execution_id: str, operations: Sequence[tuple[str, str, str]]) -> Mapping[str, Any]:
    """Return the body of a tag batch."""
    fields = {"flow_execution_id": execution_id, "tag_type": "fault"}
    return {"tags": [{"operation": name, "task_name": task, "tag": tag, **fields} for name, task, tag in operations]}


def _play(live: set[tuple[str, str]], operation: str, task: str, tag: str) -> str:
    """Apply an operation to the live tags and return what the platform has to answer."""
    if operation == "add":
        answer = "already_exists" if (task, tag) in live else "added"
        live.add((task, tag))
        return answer
    answer = "removed" if (task, tag) in live else "not_found"
    live.discard((task, tag))
    return answer
