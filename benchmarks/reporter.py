"""The reporter of the Python client, against one web process of the platform.

    .venv/bin/python -m benchmarks.reporter [--only overhead throughput outage] [--smoke]

overhead     what a call of `status` costs the work
throughput   batches of 100 that one reporter sends, beside the load generator over one connection, in turns
outage       the web process is killed in the middle of 20,000 statuses from four processes, and comes back 30 s later:
             every one has to arrive, once, and in order per task

Prints tables; the exit code is 1 if something was lost, repeated or out of order, or a target was missed.
Everything is in a temporary folder.
"""

import argparse
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.scratch import in_scratch

PARTS = ("overhead", "throughput", "outage")
MOST_MICROSECONDS = 20
LEAST_SHARE = 0.9  # of what the load generator sends, which only has to send


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    calls: int = 20_000
    paced_calls: int = 2_000
    rounds: int = 7
    seconds: float = 3.0
    warm_up: float = 0.5
    statuses: int = 20_000
    telling_seconds: float = 60.0  # in which the processes report, evenly
    outage_seconds: float = 30.0


SMOKE = Plan(
    calls=500,
    paced_calls=50,
    rounds=1,
    seconds=0.3,
    warm_up=0.1,
    statuses=2_000,
    telling_seconds=5.0,
    outage_seconds=3.0,
)


def main() -> int:
    """Run in a data directory of its own."""
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.reporter", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART")
    options.add_argument("--smoke", action="store_true", help="a small run that shows that all of it works")
    given = options.parse_args()

    def run(home: Path) -> int:
        from benchmarks.reporter_outage import outage
        from benchmarks.reporter_stage import staged

        plan = SMOKE if given.smoke else Plan()
        with staged(home) as stage:
            parts = {"overhead": overhead, "throughput": throughput, "outage": outage}
            return max([parts[name](stage, plan) for name in given.only])

    return in_scratch(run)


def overhead(stage: Any, plan: Plan) -> int:
    """Print what a call of `status` takes, with a spool and without, while the platform is there and while not."""
    worst = 0.0
    away = f"http://127.0.0.1:{stage.free_port()}"
    cases: list[tuple[str, Mapping[str, Any]]] = [
        ("back to back, spool", {"calls": plan.calls}),
        ("back to back, memory", {"calls": plan.calls, "spool": None}),
        ("one each millisecond, spool", {"calls": plan.paced_calls, "pause_seconds": 0.001}),
        ("back to back, spool, platform away", {"calls": plan.calls, "url": away, "close_seconds": 0}),
        ("back to back, memory, platform away", {"calls": plan.calls, "spool": None, "url": away, "close_seconds": 0}),
    ]
    print("| `reporter.status`, µs | p50 | p90 | p99 | calls |\n|---|---|---|---|---|")
    for title, case in cases:
        job = {"kind": "overhead", "pause_seconds": 0.0, "close_seconds": 60, **case}
        with stage.reporters([job]) as ready:
            latencies = [latency * 1e3 for latency in ready.run().latencies]
        cuts = statistics.quantiles(latencies, n=100)
        worst = max(worst, cuts[49])
        print(f"| {title} | {cuts[49]:.1f} | {cuts[89]:.1f} | {cuts[98]:.1f} | {len(latencies)} |", flush=True)
    is_met = worst < MOST_MICROSECONDS
    print(f"\n{_verdict(is_met)}: a call takes less than {MOST_MICROSECONDS} µs at the median\n")
    return 0 if is_met or plan is SMOKE else 1


def throughput(stage: Any, plan: Plan) -> int:
    """Print the batches per second of a reporter and of the load generator, measured in turns."""
    before, answered, errors = stage.statuses(), 0, ""
    times = {"warm_up": plan.warm_up, "seconds": plan.seconds}
    subjects = {
        "reporter": lambda: stage.reporters([{"kind": "throughput", **times}]),
        "load generator": lambda: stage.generator(times, keyed=True),
        "load generator, without keys": lambda: stage.generator(times, keyed=False),
    }
    rates: dict[str, list[float]] = defaultdict(list)
    for number in range(plan.rounds):
        for subject in in_turn(list(subjects), number):
            with subjects[subject]() as ready:
                sample = ready.run()
            rates[subject].append(sample.batches_per_second)
            answered += sample.answered
            errors = errors or sample.first_error
            stage.drain()
    print("| batches of 100, one at a time, one web process | batches/s | the reporter's share |\n|---|---|---|")
    for subject in subjects:
        shares = [own / other for own, other in zip(rates["reporter"], rates[subject], strict=True)]
        print(f"| {subject} | {statistics.median(rates[subject]):.1f} | {statistics.median(shares):.2f} |")
    missing = before + 100 * answered - stage.statuses()
    print(f"\n{100 * answered} statuses were sent, {missing} are missing. {errors}\n", flush=True)
    share = statistics.median(
        own / other for own, other in zip(rates["reporter"], rates["load generator"], strict=True)
    )
    is_met = share >= LEAST_SHARE
    print(f"{_verdict(is_met)}: at least {LEAST_SHARE} of the load generator's batches\n", flush=True)
    return 1 if errors or missing or not (is_met or plan is SMOKE) else 0


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "MISSED"


def in_turn(subjects: Sequence[str], number: int) -> Sequence[str]:
    """Return the subjects in an order that is another one in every round."""
    begin = number % len(subjects)
    return [*subjects[begin:], *subjects[:begin]]


if __name__ == "__main__":
    sys.exit(main())
