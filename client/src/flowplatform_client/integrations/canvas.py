"""A canvas of Celery as the definition of a flow: which tasks it is made of, and which of them wait for which.

A chain is one task after another, a group tasks side by side, a chord a body that waits for all of its header.
Callbacks (`link`) wait for the task that they are linked to. Error callbacks are no part of it.
"""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from celery import Celery
from celery.canvas import Signature, maybe_signature

STAMP = "flowplatform"

MOST_TASKS = 10_000  # of a flow, by the API
MOST_BYTES = 900_000  # of its definition: the API takes bodies of a mebibyte
_NAME_CHARACTERS = 200
_FLOW_NAME_CHARACTERS = 255


class TooLargeError(Exception):
    """The canvas has more tasks or dependencies than a flow can have."""


@dataclass(frozen=True)
class Place:
    """Which task of which execution a message is. It travels in the message as a stamp, and so to retries as well.

    `tasks` is how many the execution has; `last` is 0 if others wait for this one, and otherwise how many there are
    that none waits for. `is_inner` marks a part of what a task has replaced itself by: only its failure says something
    about the task, whose end is that of the whole.
    """

    execution_id: str
    task: str
    tasks: int
    last: int
    is_inner: bool = False

    def stamp(self, options: dict[str, Any]) -> None:
        """Put it into the options that a task is sent with."""
        options["stamped_headers"] = [*(options.get("stamped_headers") or ()), STAMP]
        options[STAMP] = json.dumps([self.execution_id, self.task, self.tasks, self.last, self.is_inner])

    @staticmethod
    def stamp_nowhere(options: dict[str, Any]) -> None:
        """Say that a task is in no execution, so that a worker which sends a part of its canvas begins none for it."""
        options["stamped_headers"] = [*(options.get("stamped_headers") or ()), STAMP]
        options[STAMP] = ""

    @classmethod
    def of(cls, stamps: Any) -> "Place | None":
        """Return the place that is in the stamps of a request, `None` if it has none."""
        text = (stamps or {}).get(STAMP)
        return cls(*json.loads(text)) if text else None


@dataclass
class Canvas:
    """A copy of a canvas, the tasks in it by name, and the definition that they make.

    Raises `TooLargeError`.
    """

    app: Celery
    signature: Signature[Any]
    definition: dict[str, Any] = field(init=False)
    _leaves: dict[str, Signature[Any]] = field(init=False, default_factory=dict)
    _after: dict[str, list[str]] = field(init=False, default_factory=dict)
    _counts: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.signature, _ = self._copied(self.signature, [])
        tasks = [
            {"name": name, "title": _short(name), "depends_on": list(after)} for name, after in self._after.items()
        ]
        self.definition = {"tasks": tasks}
        if len(json.dumps(self.definition)) > MOST_BYTES:
            raise TooLargeError(f"its {len(tasks)} tasks have too many dependencies")

    @property
    def name(self) -> str:
        """What it consists of, in the order in which it is written: `extract | classify | report`."""
        distinct = dict.fromkeys(_short(_task_of(leaf)) for leaf in self._leaves.values())
        return " | ".join(distinct)[:_FLOW_NAME_CHARACTERS]

    def hide(self) -> None:
        """Stamp every task of the copy as one that is in no execution."""
        for leaf in self._leaves.values():
            Place.stamp_nowhere(leaf.options)

    def places(self, execution_id: str) -> Iterator[tuple[Signature[Any], Place]]:
        """Yield each task of the copy with its place in an execution."""
        awaited = set(itertools.chain.from_iterable(self._after.values()))
        last = len(self._leaves.keys() - awaited)
        for name, leaf in self._leaves.items():
            yield leaf, Place(execution_id, name, len(self._leaves), 0 if name in awaited else last)

    def _copied(self, given: Any, after: list[str]) -> tuple[Signature[Any], list[str]]:
        """Return the copy of a part that begins after the tasks `after`, and the tasks that what follows waits for."""
        part: Any = maybe_signature(given, app=self.app).clone()  # type: ignore[union-attr]
        match part.subtask_type:
            case "chain":
                part.tasks, ends = self._in_turn(part.tasks, after)
            case "group":
                part.tasks, ends = self._side_by_side(part.tasks, after)
            case "chord":
                part.kwargs["header"], ends = self._header(part.kwargs["header"], after)
                if part.kwargs.get("body") is not None:
                    part.kwargs["body"], ends = self._copied(part.kwargs["body"], ends)
            case _:
                ends = [self._leaf(part, after)]
        if links := part.options.get("link"):
            part.options["link"], _ = self._side_by_side(links if isinstance(links, list) else [links], ends)
        return part, ends

    def _in_turn(self, parts: Iterable[Any], after: list[str]) -> tuple[list[Signature[Any]], list[str]]:
        copies = []
        for part in parts:
            copy, after = self._copied(part, after)
            copies.append(copy)
        return copies, after

    def _side_by_side(self, parts: Iterable[Any], after: list[str]) -> tuple[list[Signature[Any]], list[str]]:
        copied = [self._copied(part, after) for part in parts]
        ends = [end for _, ends in copied for end in ends]
        return [copy for copy, _ in copied], ends or after

    def _header(self, header: Any, after: list[str]) -> tuple[Any, list[str]]:
        """Copy the header of a chord, which is a group once it was frozen and a list before."""
        return self._copied(header, after) if isinstance(header, dict) else self._side_by_side(header, after)

    def _leaf(self, leaf: Signature[Any], after: list[str]) -> str:
        if len(self._leaves) == MOST_TASKS:
            raise TooLargeError(f"it has more than {MOST_TASKS} tasks")
        name = self._unused(_task_of(leaf))
        self._leaves[name] = leaf
        self._after[name] = after
        return name

    def _unused(self, task: str) -> str:
        """Return a name for a task: its own, with a number where it was seen before."""
        count = self._counts[task] = self._counts.get(task, 0) + 1
        name = task[:_NAME_CHARACTERS] if count == 1 else f"{task[: _NAME_CHARACTERS - 6]} {count}"
        return name if name not in self._leaves else self._unused(task)


def leaves_of(given: Any, app: Celery) -> Iterable[Signature[Any]]:
    """Yield the tasks of a canvas, without a copy of anything."""
    part: Any = maybe_signature(given, app=app)
    match part.subtask_type:
        case "chain" | "group":
            inner: Sequence[Any] = part.tasks
        case "chord":
            header, body = part.kwargs["header"], part.kwargs.get("body")
            inner = [*([header] if isinstance(header, dict) else header), *([] if body is None else [body])]
        case _:
            yield part
            return
    for each in inner:
        yield from leaves_of(each, app)


def _task_of(leaf: Signature[Any]) -> str:
    """Return the name of the task that a leaf runs, also where Celery's own task runs it for each of a list."""
    inner = leaf.kwargs["task"] if leaf.subtask_type in ("xmap", "xstarmap") else leaf
    return str(inner["task"])


def _short(task: str) -> str:
    """Return the last part of a task's name, which modules are a part of."""
    return task.rpartition(".")[2]
