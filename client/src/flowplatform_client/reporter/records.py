"""What a reporter is told, as lines of JSON, and how the lines of a queue fall into batches.

A line is a status (`["extract","running"]`), something about an attempt of a task, or the status of an execution. An
empty line is a seal: what stands before it belongs to no later batch. So the batches follow from the lines alone, and
whoever reads a queue again, after a crash too, finds the same ones.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from json.encoder import encode_basestring as _quoted
from typing import Any, NamedTuple

BATCH_SIZE = 100  # statuses that the API takes at once
SEAL = b"\n"
DOCUMENTS = ("input", "output", "error")  # of attempts: of any size, where everything else is small

_log = logging.getLogger("flowplatform_client.reporter")


class StatusRecord(NamedTuple):
    """A status of a task."""

    task: str
    status: str

    @property
    def subject(self) -> tuple[str, ...]:
        """What a later record of the same subject makes obsolete, where not all can be kept."""
        return ("status", self.task)


@dataclass(frozen=True)
class AttemptRecord:
    """Something about an attempt of a task.

    `run` names the attempt within its reporter. Its number is found out when it is sent, where `number` is `None`.
    `says` holds the fields of the API; those that are left out stay as they were. `execution_id` is needed where a
    queue has reports of several executions.
    """

    run: str
    task: str
    number: int | None
    says: Mapping[str, Any]
    execution_id: str | None = None

    @property
    def subject(self) -> tuple[str, ...]:
        """What a later record of the same subject makes obsolete, where not all can be kept."""
        return ("attempt", self.run)

    @property
    def is_last(self) -> bool:
        """Whether the attempt is over with this."""
        return "completed_at" in self.says


class ExecutionRecord(NamedTuple):
    """The status of an execution as a whole: of the queue's, unless another one is named."""

    status: str
    execution_id: str | None = None

    @property
    def subject(self) -> tuple[str, ...]:
        """What a later record of the same subject makes obsolete, where not all can be kept."""
        return ("execution", self.execution_id or "")


Record = StatusRecord | AttemptRecord | ExecutionRecord


# Half a surrogate pair, which no UTF-8 has and the API refuses, becomes a question mark.


def status_line(task: str, status: str) -> bytes:
    """Return the line of a status; raise `TypeError` for what is no text."""
    return f"[{_quoted(task)},{_quoted(status)}]\n".encode("utf-8", "replace")


def attempt_line(record: AttemptRecord) -> bytes:
    """Return the line of an attempt; raise `TypeError` or `ValueError` for what JSON does not have."""
    of = {} if record.execution_id is None else {"of": record.execution_id}
    line = {"run": record.run, "task": record.task, "number": record.number, "says": record.says, **of}
    text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "replace") + b"\n"


def execution_line(status: str, execution_id: str | None = None) -> bytes:
    """Return the line of a status of an execution; raise `TypeError` for what is no text."""
    of = "" if execution_id is None else f',"of":{_quoted(execution_id)}'
    return f'{{"execution":{_quoted(status)}{of}}}\n'.encode("utf-8", "replace")


def line_of(record: Record) -> bytes:
    """Return the line of a record."""
    match record:
        case StatusRecord(task, status):
            return status_line(task, status)
        case ExecutionRecord(status, execution_id):
            return execution_line(status, execution_id)
        case attempt:
            return attempt_line(attempt)


def merged(older: Record, newer: Record) -> Record:
    """Return what two records of the same subject come to."""
    if isinstance(older, AttemptRecord) and isinstance(newer, AttemptRecord):
        return replace(newer, says={**older.says, **newer.says})
    return newer


def without_documents(record: Record) -> Record:
    """Return a record without the documents of its attempt: itself, if it has none."""
    if isinstance(record, AttemptRecord) and any(name in record.says for name in DOCUMENTS):
        return replace(record, says={name: value for name, value in record.says.items() if name not in DOCUMENTS})
    return record


def record_of(line: bytes) -> Record | None:
    """Return what a line says; `None` for one that a full disk or a crash of the machine has torn."""
    return _records_of([line])[0]


def _records_of(lines: Sequence[bytes]) -> list[Record | None]:
    """Return what each line says. They are read all at once, which takes a fraction of the time, if none is torn."""
    try:
        read = json.loads(b"[%s]" % b",".join(lines))
    except (ValueError, RecursionError) as error:
        if len(lines) > 1:
            return [record_of(line) for line in lines]
        if isinstance(error, RecursionError):  # who told it had a deeper stack than we have
            _log.error("a report was left out: its documents are nested too deeply")
        return [None]
    # The parts of lines that were torn may look like other records together.
    return [_record(item) for item in read] if len(read) == len(lines) else [record_of(line) for line in lines]


def _record(item: Any) -> Record | None:
    if isinstance(item, list):
        return StatusRecord(*item) if len(item) == 2 else None
    match item:
        case {"run": str(run), "task": str(task), "number": None | int() as number, "says": dict() as says}:
            return AttemptRecord(run, task, number, says, item.get("of"))
        case {"execution": str(status)}:
            return ExecutionRecord(status, item.get("of"))
    return None


class Gathered(NamedTuple):
    """The first batch of some lines: it begins with line `first`, what follows begins with line `next`.

    `is_closed` says that no line which is added later can belong to it.
    """

    records: tuple[Record, ...]
    first: int
    next: int
    is_closed: bool


def gather(lines: Sequence[bytes]) -> Gathered:
    """Return the first batch of complete lines: up to 100 statuses, or one record of another kind."""
    records: list[Record] = []
    first = 0
    for begin in range(0, len(lines), BATCH_SIZE):
        some = lines[begin : begin + BATCH_SIZE]
        known = iter(_records_of([line for line in some if line]))
        for index, line in enumerate(some, begin):
            record = next(known) if line else None
            if record is None:
                if records and not line:
                    return Gathered(tuple(records), first, index + 1, True)
                first = first if records else index + 1
            elif isinstance(record, StatusRecord):
                records.append(record)
                if len(records) == BATCH_SIZE:
                    return Gathered(tuple(records), first, index + 1, True)
            elif records:
                return Gathered(tuple(records), first, index, True)
            else:
                return Gathered((record,), first, index + 1, True)
    return Gathered(tuple(records), first, len(lines), False)
