"""One replay from start to end: the flow, its executions, the play, and the comparison afterwards."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from flowplatform.demo.api import ApiError, Flow, FlowApi, UnreachableError
from flowplatform.replay.comparison import differences
from flowplatform.replay.player import Played, Player
from flowplatform.replay.progress import progress
from flowplatform.replay.schedule import Schedule
from flowplatform.replay.wfformat import Trace

DIFFERENCES_SHOWN = 10


@dataclass(frozen=True)
class Result:
    """What a replay did. `differences` are the first few, as sentences; none: the final state equals the trace."""

    executions: int
    played: Played
    differences: Sequence[str]


def register(api: FlowApi, trace: Trace) -> Flow:
    """Return the flow of the trace: the existing one of this name, given a new version if its tasks differ."""
    return api.ensure_flow(trace.name, "A recorded workflow (WfFormat 1.5), played by manage.py replay.", _tasks(trace))


def replay(api: FlowApi, flow: Flow, schedule: Schedule, executions: int) -> Result:
    """Create the executions, play the schedule in each, and read them back.

    Raises `ApiError` and `UnreachableError`; executions that could not be played to the end are marked failed, or
    cancelled if a person interrupted them.
    """
    described = {"tasks": len(schedule.trace.tasks), "speed": schedule.speed}
    ids: list[str] = []
    with _ended_honestly(api, ids):
        for _ in range(executions):
            ids.append(api.create_execution(flow["id"], described)["id"])
        _set_all(api, ids, "running")
        with progress(len(schedule.updates) * executions, "statuses") as on_sent:
            played = Player(api, ids, schedule.updates, on_sent).play()
        _set_all(api, ids, "completed")
    found = (difference for execution_id in ids for difference in differences(api, execution_id, schedule.trace))
    return Result(executions, played, list(islice(found, DIFFERENCES_SHOWN)))


def _tasks(trace: Trace) -> dict[str, Any]:
    """Return the trace as a flow definition."""
    return {"tasks": [{"name": task.id, "title": task.title, "depends_on": list(task.parents)} for task in trace.tasks]}


@contextmanager
def _ended_honestly(api: FlowApi, execution_ids: Sequence[str]) -> Iterator[None]:
    """Leave no execution that says "running" although nobody plays it any more, as far as the server can be told."""
    try:
        yield
    except ApiError:
        with suppress(ApiError, UnreachableError):  # the first refusal is the one to tell
            _set_all(api, execution_ids, "failed")
        raise
    except (KeyboardInterrupt, SystemExit):
        with suppress(ApiError, UnreachableError):
            _set_all(api, execution_ids, "cancelled")
        raise


def _set_all(api: FlowApi, execution_ids: Sequence[str], status: str) -> None:
    for execution_id in execution_ids:
        api.set_execution_status(execution_id, status)
