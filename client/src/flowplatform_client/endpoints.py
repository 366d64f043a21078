"""Every request of the API as a function that describes it. The clients send them; see `resources`.

What is here is written once for the synchronous and the asynchronous client: parameters, documentation, and how an
answer is read. `idempotency_key` is for whoever may ask again with a call of its own, such as a program that is
started once more: for 24 hours the server does once what has the same key. Without one every call has its own.
"""

import json
import re
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, TypeVar

from flowplatform_client.calls import Answer, Call, Id, new_key, path
from flowplatform_client.models import (
    Event,
    EventPage,
    Execution,
    ExpectedTags,
    Flow,
    Reset,
    TagChange,
    TagOutcome,
    TaskExecution,
    TaskOutput,
    TaskStatus,
    TaskTag,
    moment,
    parsed,
)
from flowplatform_client.pages import Page

T = TypeVar("T")
M = TypeVar("M")

Steps = Generator[Call[Any], Any, T]
"""Several requests, each decided by the answers before it: yields calls, is sent their results, returns the end."""

BATCH_SIZE = 100  # updates or changes in one call

_NEXT = re.compile(r'<[^>]*>\s*;[^,]*\brel="?next\b')


class _Unset:
    """What a field is that is left out: on the platform it stays as it was, while `None` empties it."""

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset()


# --- Flows ----------------------------------------------------------------------------------------------------------


def create_flow(
    display_name: str,
    definition: Mapping[str, Any],
    *,
    description: str = "",
    idempotency_key: str | None = None,
) -> Call[Flow]:
    """Register a flow with its first version.

    `definition` is `{"tasks": [{"name", "title"?, "depends_on"?: [names]}]}`. Raises `InvalidDefinitionError` where
    names are not unique or dependencies not known and free of circles.
    """
    body = {"display_name": display_name, "description": description, "definition": definition}
    return _write("POST", path("flows"), _one(Flow), body, key=idempotency_key)


def get_flow(flow_id: Id, *, version: int | None = None) -> Call[Flow]:
    """Return a flow with its newest definition, or with that of a version."""
    return Call(method="GET", path=path("flows", flow_id), read=_one(Flow), query={"version": version})


def list_flows(*, page_size: int = 20) -> Call[Page[Flow]]:
    """Return the flows, newest first. Each comes with its definition, of up to 10,000 tasks."""
    return _numbered(path("flows"), Flow, {"page_size": page_size})


def define_flow(flow_id: Id, definition: Mapping[str, Any], *, idempotency_key: str | None = None) -> Call[Flow]:
    """Add a version to a flow; executions that exist keep theirs."""
    body = {"definition": definition}
    return _write("PUT", path("flows", flow_id, "definition"), _one(Flow), body, key=idempotency_key)


def ensure_flow(display_name: str, definition: Mapping[str, Any], *, description: str = "") -> Steps[Flow]:
    """Return the flow of this name and definition: the existing one, given a new version if its tasks differ.

    Two programs that do this for the first time at the same moment may register two flows of one name.
    """
    named: list[Flow] = []
    call: Call[Page[Flow]] | None = list_flows()
    while call is not None:
        page: Page[Flow] = yield call
        named += [flow for flow in page.rows if flow.display_name == display_name]
        call = page.next
    for known in named:
        if comparable(known.definition) == comparable(definition):
            return known
    if named:
        flow: Flow = yield define_flow(named[0].id, definition)
    else:
        flow = yield create_flow(display_name, definition, description=description)
    return flow


# --- Executions -----------------------------------------------------------------------------------------------------


def create_execution(
    flow_id: Id, input: Mapping[str, Any] | None = None, *, idempotency_key: str | None = None
) -> Call[Execution]:
    """Queue an execution of the flow's newest version. Whoever asks with the same key gets the same execution."""
    body = {"flow_id": str(flow_id), "input": input or {}}
    return _write("POST", path("flow-executions"), _one(Execution), body, key=idempotency_key)


def get_execution(execution_id: Id) -> Call[Execution]:
    """Return an execution."""
    return Call(method="GET", path=path("flow-executions", execution_id), read=_one(Execution))


def list_executions(
    flow_id: Id,
    *,
    status: Sequence[str] = (),
    status_exclude: Sequence[str] = (),
    tags: Sequence[str] = (),
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    updated_after: datetime | None = None,
    updated_before: datetime | None = None,
    sort_field: Literal["created_at", "updated_at"] = "created_at",
    sort_direction: Literal["asc", "desc"] = "desc",
    include_run_number: bool = False,
    page_size: int = 100,
) -> Call[Page[Execution]]:
    """Return the executions of a flow, newest first unless asked otherwise.

    `tags` are `type:tag` or `tag`, and each has to be there. A time without a zone is UTC; the moment itself is left
    out. What is deleted while the list is read may move a row out of sight.
    """
    query = {
        "flow_id": str(flow_id),
        "status": _several(status),
        "status_exclude": _several(status_exclude),
        "tags": _several(tags),
        "created_after": created_after,
        "created_before": created_before,
        "updated_after": updated_after,
        "updated_before": updated_before,
        "sort_field": sort_field,
        "sort_direction": sort_direction,
        "include_run_number": include_run_number,
        "page_size": page_size,
    }
    return _numbered(path("flow-executions"), Execution, query)


def delete_execution(execution_id: Id) -> Call[None]:
    """Delete an execution: it is gone from every list, its history stays. Again is no error."""
    return _write("DELETE", path("flow-executions", execution_id), _nothing)


def cancel_execution(execution_id: Id) -> Call[None]:
    """Ask the workers to stop. What has ended stays as it is."""
    return _write("POST", path("flow-executions", execution_id, "cancel"), _nothing)


def set_execution_status(execution_id: Id, status: str) -> Call[Execution]:
    """Say how the execution as a whole goes. The statuses of its tasks never change it."""
    where = path("flow-executions", execution_id, "status")
    return _write("PATCH", where, _one(Execution), query={"status": status})


def execute_again(execution_id: Id, *, only_stale: bool = False, idempotency_key: str | None = None) -> Call[None]:
    """Queue the tasks that have reported again, or only the stale ones."""
    where = path("flow-executions", execution_id, "execute")
    return _write("POST", where, _nothing, query={"only_stale": only_stale}, key=idempotency_key)


# --- Statuses -------------------------------------------------------------------------------------------------------


def add_statuses(
    execution_id: Id, updates: Iterable[tuple[str, str]], *, idempotency_key: str | None = None
) -> Call[list[TaskStatus]]:
    """Report 1 to 100 statuses, pairs of a task's name and its status: in order, all or none, and once.

    Raises `BadRequestError` where the flow's version does not define a task.
    """
    body = {"statuses": [{"task_name": name, "status": status} for name, status in updates]}
    where = path("flow-executions", execution_id, "task-status")
    return _write("POST", where, _many(TaskStatus), body, key=idempotency_key)


def list_statuses(execution_id: Id, *, task_name: str | None = None, page_size: int = 1000) -> Call[Page[TaskStatus]]:
    """Return every status that was reported, or those of one task, newest first."""
    query = {"task_name": task_name, "limit": page_size}
    return _by_cursor(path("flow-executions", execution_id, "task-status"), "statuses", TaskStatus, query)


# --- Task executions and outputs ------------------------------------------------------------------------------------


def put_task_execution(
    execution_id: Id,
    task_name: str,
    task_execution_idx: int,
    processing_status: str,
    *,
    input: Any = UNSET,
    output: Any = UNSET,
    error: Any = UNSET,
    started_at: datetime | _Unset | None = UNSET,
    completed_at: datetime | _Unset | None = UNSET,
) -> Call[TaskExecution]:
    """Report an attempt of a task, or more of it: the same again makes the same.

    Attempts of a task are counted from 0. What is left out stays as it is, `None` empties it.
    """
    body = {
        "flow_execution_id": str(execution_id),
        "task_name": task_name,
        "task_execution_idx": task_execution_idx,
        "processing_status": processing_status,
        "input": input,
        "output": output,
        "error": error,
        "started_at": _time(started_at),
        "completed_at": _time(completed_at),
    }
    return _write("POST", path("task-executions"), _one(TaskExecution), _given(body))


def edit_task_execution(
    task_execution: TaskExecution, *, execute_flow: bool = False, idempotency_key: str | None = None
) -> Call[TaskExecution]:
    """Replace what a task execution holds by the one given: one that was read, with `dataclasses.replace`.

    Everything downstream becomes stale, and is queued again with `execute_flow`. Raises `ConflictError` if somebody
    changed it since it was read.
    """
    changed = asdict(task_execution)
    for ignored in ("tags", "created_at", "modified_by", "edited_status", "stale_status"):
        del changed[ignored]
    for time in ("updated_at", "started_at", "completed_at"):
        changed[time] = _time(changed[time])
    query = {"execute_flow": execute_flow}
    return _write("PUT", path("task-executions"), _one(TaskExecution), changed, query=query, key=idempotency_key)


def get_task_execution(task_execution_id: Id) -> Call[TaskExecution]:
    """Return one attempt of a task."""
    return Call(method="GET", path=path("task-executions", task_execution_id), read=_one(TaskExecution))


def list_task_executions(
    execution_id: Id, *, task_name: str | None = None, task_execution_idx: int | None = None, page_size: int = 100
) -> Call[Page[TaskExecution]]:
    """Return the attempts of an execution's tasks, newest first."""
    query = {
        "flow_execution_id": str(execution_id),
        "task_name": task_name,
        "task_execution_idx": task_execution_idx,
        "limit": page_size,
    }
    return _by_cursor(path("task-executions"), "task_executions", TaskExecution, query)


def set_task_output(execution_id: Id, task_name: str, *, summary: Any = UNSET, output: Any = UNSET) -> Call[TaskOutput]:
    """Say what came of a task: a summary, the output, or both. What is left out stays, `None` empties it."""
    body = {"flow_execution_id": str(execution_id), "task_name": task_name, "summary": summary, "output": output}
    return _write("POST", path("task-outputs"), _one(TaskOutput), _given(body))


def get_task_output(task_output_id: Id) -> Call[TaskOutput]:
    """Return the state of one task."""
    return Call(method="GET", path=path("task-outputs", task_output_id), read=_one(TaskOutput))


def list_task_outputs(
    execution_id: Id, *, task_name: str | None = None, page_size: int = 1000
) -> Call[Page[TaskOutput]]:
    """Return the state of every task that has reported, newest first."""
    query = {"flow_execution_id": str(execution_id), "task_name": task_name, "limit": page_size}
    return _by_cursor(path("task-outputs"), "task_outputs", TaskOutput, query)


# --- Tags -----------------------------------------------------------------------------------------------------------


def change_tags(
    changes: Iterable[TagChange], *, expected: Iterable[ExpectedTags] = (), idempotency_key: str | None = None
) -> Call[list[TagOutcome]]:
    """Add and remove 1 to 100 tags: in order, all or none, and once. Return what became of each.

    With `expected` the batch is refused with `ConflictError` if other tags of that type stand by now.
    """
    body: dict[str, Any] = {"tags": [asdict(change) for change in changes]}
    if seen := [asdict(one) for one in expected]:
        body["expected"] = seen

    def outcomes(answer: Answer) -> list[TagOutcome]:
        return [outcome["status"] for outcome in _json(answer)["tags"]]

    return _write("PATCH", path("task-tags"), outcomes, body, key=idempotency_key)


def add_tag(execution_id: Id, task_name: str, tag: str, tag_type: str, *, metadata: Any = None) -> Call[TagOutcome]:
    """Add a tag to a task: `added`, or `already_exists`."""
    return _change_tag("add", execution_id, task_name, tag, tag_type, metadata)


def remove_tag(execution_id: Id, task_name: str, tag: str, tag_type: str, *, metadata: Any = None) -> Call[TagOutcome]:
    """Remove a tag from a task: `removed`, or `not_found`. Who and when stays on record."""
    return _change_tag("remove", execution_id, task_name, tag, tag_type, metadata)


def list_tags(execution_id: Id, *, task_name: str | None = None, include_deleted: bool = False) -> Call[list[TaskTag]]:
    """Return the tags of an execution or of one of its tasks, oldest first; with the removed ones it is the trail."""
    query = {"flow_execution_id": str(execution_id), "task_name": task_name, "include_deleted": include_deleted}
    return Call(method="GET", path=path("task-tags"), read=_many(TaskTag), query=query)


def _change_tag(
    operation: Literal["add", "remove"], execution_id: Id, task_name: str, tag: str, tag_type: str, metadata: Any
) -> Call[TagOutcome]:
    change = TagChange(
        operation=operation,
        flow_execution_id=str(execution_id),
        task_name=task_name,
        tag=tag,
        tag_type=tag_type,
        tag_metadata=metadata,
    )
    return change_tags([change]).then(lambda outcomes: outcomes[0])


# --- Events ---------------------------------------------------------------------------------------------------------


def read_events(
    flow_id: Id, *, since: int | None = None, epoch: str | None = None, page_size: int = 1000
) -> Call[EventPage]:
    """Return one part of the events of a flow after `since`, oldest first, and how far they go."""
    query = {"since": since, "epoch": epoch, "limit": page_size}
    return Call(method="GET", path=path("flows", flow_id, "events"), read=_event_page, query=query)


def list_events(
    flow_id: Id, *, since: int | None = None, epoch: str | None = None, page_size: int = 1000
) -> Call[Page[Event | Reset]]:
    """Return the events of a flow after `since`, oldest first, up to now.

    A `Reset` says that what came before it is not told: `since` is too long ago, or of another epoch.
    """

    def page(part: EventPage) -> Page[Event | Reset]:
        if part.reset:
            return Page([Reset(epoch=part.epoch, offset=part.offset)], None)
        is_last = not part.events or part.events[-1].offset >= part.offset
        further = (
            None
            if is_last
            else list_events(flow_id, since=part.events[-1].offset, epoch=part.epoch, page_size=page_size)
        )
        return Page(part.events, further)

    return read_events(flow_id, since=since, epoch=epoch, page_size=page_size).then(page)


def event(epoch: str, data: Mapping[str, Any]) -> Event:
    """Return an event as sockets and lists tell it."""
    return Event(
        epoch=epoch,
        offset=data["offset"],
        type=data["type"],
        flow_execution_id=data["flow_execution_id"],
        created_at=moment(data["created_at"]),
        data=data["data"],
    )


def _event_page(answer: Answer) -> EventPage:
    data = _json(answer)
    events = tuple(event(data["epoch"], row) for row in data["events"])
    return EventPage(epoch=data["epoch"], offset=data["offset"], reset=data["reset"], events=events)


# --- What they are made of ------------------------------------------------------------------------------------------


def _write(
    method: str,
    where: str,
    read: Callable[[Answer], T],
    body: Any = None,
    *,
    query: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> Call[T]:
    """Return a write. All carry a key; the server looks at it wherever the same write twice would be two."""
    return Call(method=method, path=where, read=read, query=query or {}, body=body, key=key or new_key())


def _json(answer: Answer) -> Any:
    return json.loads(answer.content)


def _nothing(answer: Answer) -> None:
    """Read an answer that has no content."""


def _one(model: type[M]) -> Callable[[Answer], M]:
    return lambda answer: parsed(model, _json(answer))


def _many(model: type[M]) -> Callable[[Answer], list[M]]:
    return lambda answer: [parsed(model, row) for row in _json(answer)]


def _numbered(where: str, model: type[M], query: Mapping[str, Any]) -> Call[Page[M]]:
    """Return a list whose pages have numbers. Rows that are added meanwhile move others to the next page."""

    def of_page(number: int, seen: set[str]) -> Call[Page[M]]:
        def read(answer: Answer) -> Page[M]:
            told = seen if number > 1 else set()
            rows = [row for row in _json(answer) if row["id"] not in told]
            told.update(row["id"] for row in rows)
            has_next = _NEXT.search(answer.headers.get("link", "")) is not None
            return Page([parsed(model, row) for row in rows], of_page(number + 1, told) if has_next else None)

        return Call(method="GET", path=where, read=read, query={**query, "page": number})

    return of_page(1, set())


def _by_cursor(where: str, name: str, model: type[M], query: Mapping[str, Any]) -> Call[Page[M]]:
    """Return a list that goes by cursor."""

    def read(answer: Answer) -> Page[M]:
        part = _json(answer)
        cursor = part["next_cursor"]
        further = None if cursor is None else _by_cursor(where, name, model, {**query, "cursor": cursor})
        return Page([parsed(model, row) for row in part[name]], further)

    return Call(method="GET", path=where, read=read, query=query)


def _several(values: Sequence[str]) -> list[str]:
    """Return the values of a parameter, of which a caller may give one as a plain text."""
    return [values] if isinstance(values, str) else list(values)


def _given(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if not isinstance(value, _Unset)}


def _time(value: datetime | _Unset | None) -> str | _Unset | None:
    return value.isoformat() if isinstance(value, datetime) else value


def comparable(definition: Mapping[str, Any]) -> list[tuple[str, str, frozenset[str]]]:
    """Reduce a definition to what makes it another one; the server may add defaults to what it was given."""
    tasks = definition.get("tasks", [])
    return [(task["name"], task.get("title") or "", frozenset(task.get("depends_on") or ())) for task in tasks]
