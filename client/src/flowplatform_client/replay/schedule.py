"""The schedule of a trace: when each task is queued, running and completed, at a given speed."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from flowplatform_client.models import StatusUpdate
from flowplatform_client.replay.wfformat import Trace

COMPLETED = "completed"
PHASES = ("queued", "running", COMPLETED)
DEFAULT_DURATION_SECONDS = 20.0


@dataclass(frozen=True)
class Due:
    """A status and when to report it, in seconds after the start."""

    at: float
    update: StatusUpdate


@dataclass(frozen=True)
class Schedule:
    """A trace played `speed` times as fast as it was recorded."""

    trace: Trace
    speed: float

    @cached_property
    def updates(self) -> Sequence[Due]:
        """Every status in the order of reporting.

        What is due at the same moment keeps topological order, so that a parent completes before its child is
        queued even where tasks last no time at all.
        """
        ends = completion_times(self.trace)
        planned: list[Due] = []
        for task in self.trace.tasks:
            begin = max((ends[parent] for parent in task.parents), default=0.0) / self.speed
            moments = (begin, begin, ends[task.id] / self.speed)
            planned += (Due(at, StatusUpdate(task.id, phase)) for at, phase in zip(moments, PHASES, strict=True))
        return sorted(planned, key=lambda due: due.at)  # stable: ties stay in topological order

    @property
    def duration_seconds(self) -> float:
        """How long it lasts: the critical path of the trace at this speed."""
        return critical_path_seconds(self.trace) / self.speed


def speed_for(trace: Trace, duration_seconds: float = DEFAULT_DURATION_SECONDS) -> float:
    """Return the speed at which the trace lasts that long, 1 if it lasts no time at any speed."""
    return critical_path_seconds(trace) / duration_seconds or 1.0


def critical_path_seconds(trace: Trace) -> float:
    """Return how long the trace lasts if every task starts when its parents are done."""
    return max(completion_times(trace).values())


def completion_times(trace: Trace) -> Mapping[str, float]:
    """Return when each task completes, in recorded seconds after the start."""
    ends: dict[str, float] = {}
    for task in trace.tasks:
        begin = max((ends[parent] for parent in task.parents), default=0.0)
        ends[task.id] = begin + task.runtime_seconds
    return ends


def in_batches(updates: Sequence[StatusUpdate], size: int) -> Iterator[Sequence[StatusUpdate]]:
    """Yield the updates in order, up to `size` at a time."""
    for start in range(0, len(updates), size):
        yield updates[start : start + size]
