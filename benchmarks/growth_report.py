"""What `make bench-growth` came to: every round, medians of the ratios of its two sides, and what misses the target."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from benchmarks.growth_reads import READS
from benchmarks.growth_run import BATCH, WRITES, Plan, Side

TARGET = 0.8  # of the small database's throughput


def report(
    plan: Plan, sides: Sequence[Side], plans: Mapping[str, Any], postgresql: Mapping[str, str]
) -> dict[str, Any]:
    """Return everything as the result file has it. Ratios are of the throughput; that of a read is one by its time."""
    small, large = sides
    without_target = [title for title, write in WRITES.items() if not write.has_target]
    ratios = {
        **{title: _ratio(_per_second(large, title), _per_second(small, title)) for title in WRITES},
        **{read: round(_p50(small, read) / _p50(large, read), 3) for read in READS},
    }
    return {
        "postgresql": dict(postgresql),
        "plan": {"rounds": plan.rounds, "seconds": plan.seconds, "reads": plan.reads, "updates_of_a_batch": BATCH},
        "sizes": {
            side.name: {**asdict(side.size), "rows": side.size.rows, "outputs": side.size.outputs} for side in sides
        },
        "batches_per_second": {side.name: {title: _per_second(side, title) for title in WRITES} for side in sides},
        "cpu_ms_of_a_batch": {side.name: {title: _cpu_ms(side, title) for title in WRITES} for side in sides},
        "read_p50_ms": {side.name: {read: _p50(side, read) for read in READS} for side in sides},
        "target": TARGET,
        "without_target": without_target,
        "ratios": ratios,
        "cpu_ratios": {title: _ratio(_cpu_ms(large, title), _cpu_ms(small, title)) for title in WRITES},
        "plans": dict(plans),
        "missed": [name for name, ratio in ratios.items() if ratio < TARGET and name not in without_target],
        "wrong": [
            # A small table may well be read as a whole.
            f"{read}: {line}"
            for read, found in plans[large.name].items()
            for line in found["wrong"]
        ],
    }


def _per_second(side: Side, title: str) -> list[float]:
    return [figures.batches_per_second for figures in side.figures[title]]


def _p50(side: Side, read: str) -> float:
    return round(median(side.read_ms[read]), 3)


def _cpu_ms(side: Side, title: str) -> list[float]:
    """Return what the server and PostgreSQL worked for a batch: others on the machine matter less than to time."""
    used = [figures.cpu_seconds_per_1000_batches for figures in side.figures[title]]
    return [round(each["postgres"] + each.get("server", 0.0) * WRITES[title].over_http, 3) for each in used]


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """Return the median of the rounds' ratios: both sides of each were measured one right after the other."""
    return round(median(a / b for a, b in zip(ours, theirs, strict=True)), 3)
