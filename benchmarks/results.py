"""What a run came to: medians over its rounds, ratios within each round, and the targets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Literal

from benchmarks.cells import FLOOR, FLOORS, PEER, YARDSTICK_FLOOR, Cell
from benchmarks.measuring import Figures
from benchmarks.runner import Outcome, Plan
from benchmarks.servers import SERVERS, WEB_PROCESSES
from benchmarks.workload import Kind

Rounds = Mapping[Cell, Sequence[Figures]]
Measure = Literal["batches_per_second", "p50_ms"]


@dataclass(frozen=True)
class Target:
    """A ratio that the scaled web role has to reach."""

    kind: Kind
    size: int
    connections: int
    measure: Measure
    against: str
    limit: float  # at least for a throughput, at most for a time

    @property
    def text(self) -> str:
        """The target as a sentence."""
        what = "p50" if self.measure == "p50_ms" else "throughput"
        bound = "at most" if self.measure == "p50_ms" else "at least"
        return (
            f"{self.kind} batches of {self.size}, {self.connections} connection{'s'[: self.connections > 1]}: "
            f"{what} {bound} {self.limit:g} x {self.against}"
        )

    def is_met(self, ratio: float) -> bool:
        """Say whether a ratio reaches it."""
        return ratio <= self.limit if self.measure == "p50_ms" else ratio >= self.limit


TARGETS = (
    Target("status", 10, 8, "batches_per_second", PEER, 0.7),
    Target("status", 10, 8, "batches_per_second", FLOOR, 0.45),
    Target("status", 100, 8, "batches_per_second", PEER, 0.9),
    Target("status", 100, 8, "batches_per_second", FLOOR, 0.65),
    Target("status", 10, 1, "p50_ms", FLOOR, 3),
    Target("tag", 100, 8, "batches_per_second", FLOOR, 0.5),
)


def ratio(rounds: Rounds, cell: Cell, against: str, measure: Measure = "batches_per_second") -> float | None:
    """Return the median of the rounds' ratios: both sides of each were measured within the same minute."""
    other = cell.of(against)
    if cell not in rounds or other not in rounds:
        return None
    pairs = zip(rounds[cell], rounds[other], strict=False)  # one may have been measured in more rounds than the other
    ratios = [getattr(ours, measure) / getattr(theirs, measure) for ours, theirs in pairs if getattr(theirs, measure)]
    return round(median(ratios), 3) if ratios else None


def middle(rounds: Sequence[Figures], value: Callable[[Figures], float | None]) -> float | None:
    """Return the median of a value over the rounds that have it."""
    values = [found for figures in rounds if (found := value(figures)) is not None]
    return round(median(values), 3) if values else None


def cell_results(rounds: Rounds) -> list[dict[str, Any]]:
    """Return every cell with its medians, ratios and rounds."""
    return [_cell_result(rounds, cell) for cell in rounds]


def _cell_result(rounds: Rounds, cell: Cell) -> dict[str, Any]:
    ours = rounds[cell]
    groups = ours[0].cpu_seconds_per_1000_batches
    ratios = {
        f"{measure}_to_{other}": found
        for other in (FLOOR, YARDSTICK_FLOOR, PEER)
        for measure in _compared(cell)
        if cell.subject not in (*FLOORS, other) and (found := ratio(rounds, cell, other, measure)) is not None
    }
    return {
        **asdict(cell),
        "batches_per_second": middle(ours, lambda each: each.batches_per_second),
        "p50_ms": middle(ours, lambda each: each.p50_ms),
        "p99_ms": middle(ours, lambda each: each.p99_ms),
        "errors": sum(each.errors for each in ours),
        "ratios": ratios,
        "cpu_seconds_per_1000_batches": {
            group: middle(ours, lambda each, group=group: each.cpu_seconds_per_1000_batches.get(group))  # type: ignore[misc]
            for group in groups
        },
        "busy_cores": {group: middle(ours, lambda each, group=group: each.busy.get(group)) for group in ours[0].busy},  # type: ignore[misc]
        "rounds": [asdict(each) for each in ours],
    }


def _compared(cell: Cell) -> tuple[Measure, ...]:
    """Return what is compared: times only over one connection, as with more of them requests wait for each other."""
    return ("batches_per_second", "p50_ms") if cell.connections == 1 else ("batches_per_second",)


def target_results(rounds: Rounds) -> list[dict[str, Any]]:
    """Return every target for every server with several processes; `met` is `None` where it was not measured."""
    servers = dict.fromkeys(cell.subject for cell in rounds if cell.subject in SERVERS)
    return [
        _target_result(rounds, server, target) for server in servers if SERVERS[server].scaled for target in TARGETS
    ]


def _target_result(rounds: Rounds, server: str, target: Target) -> dict[str, Any]:
    cell = Cell(server, target.kind, target.size, target.connections)
    found = ratio(rounds, cell, target.against, target.measure)
    result = {
        "server": server,
        "target": target.text,
        "ratio": found,
        "met": None if found is None else target.is_met(found),
    }
    if target.against == FLOOR and (other := ratio(rounds, cell, YARDSTICK_FLOOR, target.measure)) is not None:
        result["ratio_to_yardstick_floor"] = other  # its schema is another one; not judged
    return result


def report(plan: Plan, outcome: Outcome, machine: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything as the result file has it."""
    return {
        **machine,
        "plan": {**asdict(plan), "web_processes": WEB_PROCESSES},
        "left_out": outcome.left_out,
        "errors": outcome.errors(),
        "targets": target_results(outcome.rounds),
        "memory": outcome.memory,
        "postgres_proportional_peak_mib": round(outcome.postgres_peak_mib, 1),
        "idle_busy_cores": outcome.idle,
        "cells": cell_results(outcome.rounds),
    }
