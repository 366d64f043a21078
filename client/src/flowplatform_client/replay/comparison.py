"""Comparing what the platform shows after a replay with the trace that was played."""

import math
from collections.abc import Iterator, Mapping, Sequence

from flowplatform_client.client import FlowPlatform
from flowplatform_client.models import StatusUpdate
from flowplatform_client.replay.schedule import COMPLETED, PHASES
from flowplatform_client.replay.wfformat import Trace, TraceTask


def differences(platform: FlowPlatform, execution_id: str, trace: Trace) -> Iterator[str]:
    """Read an execution back; yield every difference, a sentence that names the task and the execution."""
    states = {output.task_name: output.processing_status for output in platform.task_outputs.list(execution_id)}
    newest_first = [StatusUpdate(row.task_name, row.status) for row in platform.statuses.history(execution_id)]
    history = newest_first[::-1]
    for difference in compare(trace, states, history):
        yield f"{difference} (execution {execution_id})"


def compare(trace: Trace, states: Mapping[str, str | None], history: Sequence[StatusUpdate]) -> Iterator[str]:
    """Yield every way in which the derived states and the history (oldest first) differ from the trace."""
    positions: dict[str, dict[str, int]] = {task.id: {} for task in trace.tasks}
    reported: dict[str, list[str]] = {task.id: [] for task in trace.tasks}
    for position, update in enumerate(history):
        if update.task_name in reported:
            positions[update.task_name][update.status] = position
            reported[update.task_name].append(update.status)
    for stranger in sorted({*states, *(update.task_name for update in history)} - reported.keys()):
        yield f'"{stranger}" is no task of the trace'
    for task in trace.tasks:
        yield from _compare_task(task, states.get(task.id), reported[task.id], positions)


def _compare_task(
    task: TraceTask, state: str | None, reported: Sequence[str], positions: Mapping[str, Mapping[str, int]]
) -> Iterator[str]:
    if state != COMPLETED:
        yield f'"{task.id}" is {state or "without a state"}, not {COMPLETED}'
    if tuple(reported) != PHASES:
        yield f'the history of "{task.id}" is {", ".join(reported) or "empty"}, not {", ".join(PHASES)}'
        return
    for parent in task.parents:
        if positions[task.id][PHASES[0]] < positions[parent].get(COMPLETED, math.inf):
            yield f'"{task.id}" was queued before its parent "{parent}" was {COMPLETED}'
