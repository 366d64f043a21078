"""A web process that is killed while four processes report, and comes back: what became of every status?"""

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from benchmarks.measuring import Clients
from benchmarks.reporter import Plan

_PROCESSES = 4


class Stage(Protocol):
    """An execution, processes that report it, and a server that can be killed."""

    def reporters(self, jobs: Sequence[Mapping[str, Any]]) -> AbstractContextManager[Clients]:
        """Have processes with a reporter each, ready to begin."""

    def kill(self) -> None:
        """Kill the server."""

    def restart(self) -> None:
        """Start it again; return when it answers."""

    def history(self) -> list[tuple[str, str]]:
        """Return task and status of all that was reported, in order."""


def outage(stage: Stage, plan: Plan) -> int:
    """Print what is missing, repeated and out of order; return 1 if anything is, else 0."""
    each = plan.statuses // _PROCESSES
    pause = plan.telling_seconds / each
    names = [f"process-{number}" for number in range(_PROCESSES)]
    jobs = [{"kind": "outage", "name": name, "statuses": each, "pause_seconds": pause} for name in names]
    with stage.reporters(jobs) as ready:
        ready.begin()
        time.sleep(plan.telling_seconds / 4)
        stage.kill()
        known = len(_reported(stage))
        time.sleep(plan.outage_seconds)
        stage.restart()
        begin = time.monotonic()
        sample = ready.end()
    print(f"The web process was killed after {known} of {plan.statuses} statuses, for {plan.outage_seconds:.0f} s.")
    print(f"Everything was reported and sent {time.monotonic() - begin:.1f} s after it answered again.")
    print(f"A call of `status` took {statistics.median(sample.latencies) * 1e3:.1f} µs at the median.\n")
    missing, repeated, disordered = _judged(_reported(stage), names, each)
    print("| told | missing | repeated | tasks out of order |\n|---|---|---|---|")
    print(f"| {each * len(names)} | {missing} | {repeated} | {disordered} |\n{sample.first_error}", flush=True)
    return 1 if missing or repeated or disordered or sample.errors else 0


def _reported(stage: Stage) -> list[tuple[str, str, int]]:
    """Return task, process and number of what the four have reported, in the order of the history."""
    told = [(task, *status.split(":")) for task, status in stage.history() if ":" in status]
    return [(task, name, int(number)) for task, name, number in told]


def _judged(history: Sequence[tuple[str, str, int]], names: Sequence[str], each: int) -> tuple[int, int, int]:
    """Return how many are missing, how many there more than once, and how many tasks of a process are out of order."""
    times = Counter((name, number) for _, name, number in history)
    missing = sum((name, number) not in times for name in names for number in range(each))
    order: dict[tuple[str, str], list[int]] = defaultdict(list)
    for task, name, number in history:
        order[task, name].append(number)
    disordered = sum(numbers != sorted(numbers) for numbers in order.values())
    return missing, sum(times.values()) - len(times), disordered
