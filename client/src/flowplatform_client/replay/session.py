"""One replay from start to end: the flow, its executions, the play, and the comparison afterwards."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any

from flowplatform_client.client import FlowPlatform
from flowplatform_client.errors import ApiError, FlowPlatformError
from flowplatform_client.models import Flow
from flowplatform_client.replay.comparison import differences
from flowplatform_client.replay.player import OnSent, Played, Player
from flowplatform_client.replay.schedule import Schedule
from flowplatform_client.replay.wfformat import Trace

DIFFERENCES_SHOWN = 10


@dataclass(frozen=True)
class Result:
    """What a replay did. `differences` are the first few, as sentences; none: the final state equals the trace."""

    execution_ids: Sequence[str]
    played: Played
    differences: Sequence[str]


def register(platform: FlowPlatform, trace: Trace) -> Flow:
    """Return the flow of the trace: the existing one of this name, given a new version if its tasks differ."""
    return platform.flows.ensure(trace.name, _tasks(trace), description="A recorded workflow (WfFormat 1.5), replayed.")


def replay(
    platform: FlowPlatform, flow: Flow, schedule: Schedule, executions: int, on_sent: OnSent = lambda count: None
) -> Result:
    """Create the executions, play the schedule in each, and read them back.

    Raises `ApiError` and `ConnectionFailedError`; executions that could not be played to the end are marked failed, or
    cancelled if a person interrupted them. `on_sent` is told, from any thread, how many statuses were just answered.
    """
    described = {"tasks": len(schedule.trace.tasks), "speed": schedule.speed}
    ids: list[str] = []
    with _ended_honestly(platform, ids):
        for _ in range(executions):
            ids.append(platform.executions.create(flow.id, described).id)
        _set_all(platform, ids, "running")
        played = Player(platform, ids, schedule.updates, on_sent).play()
        _set_all(platform, ids, "completed")
    found = (difference for execution_id in ids for difference in differences(platform, execution_id, schedule.trace))
    return Result(ids, played, list(islice(found, DIFFERENCES_SHOWN)))


def _tasks(trace: Trace) -> dict[str, Any]:
    """Return the trace as a flow definition."""
    return {"tasks": [{"name": task.id, "title": task.title, "depends_on": list(task.parents)} for task in trace.tasks]}


@contextmanager
def _ended_honestly(platform: FlowPlatform, execution_ids: Sequence[str]) -> Iterator[None]:
    """Leave no execution that says "running" although nobody plays it any more, as far as the server can be told."""
    try:
        yield
    except ApiError:
        with suppress(FlowPlatformError):  # the first refusal is the one to tell
            _set_all(platform, execution_ids, "failed")
        raise
    except (KeyboardInterrupt, SystemExit):
        with suppress(FlowPlatformError):
            _set_all(platform, execution_ids, "cancelled")
        raise


def _set_all(platform: FlowPlatform, execution_ids: Sequence[str], status: str) -> None:
    for execution_id in execution_ids:
        platform.executions.set_status(execution_id, status)
