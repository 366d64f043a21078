"""The result of `make bench-live` as text for a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks.live_memory import POSTGRES

P99_MS = 500
GROWTH = 0.5  # MiB a minute, of a process of ours, in the second half of ten minutes
LONG = 600  # seconds, from which growth is judged
_TIMES = f"{'p50 ms':>9}{'p99 ms':>9}{'max ms':>9}"
_TITLES = {"one-flow": "one flow", "many-flows": "many flows"}


def lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the tables and the targets."""
    yield from _delivery(found)
    yield ""
    yield from _memory(found)
    yield ""
    yield from _targets(found)
    for error in found["errors"]:
        yield f"ERROR {error}"


def _delivery(found: Mapping[str, Any]) -> Iterator[str]:
    load, seconds = found["load"], found["seconds"]
    batches = sum(load["answered"])
    yield (
        f"\n{batches * 10 / load['seconds']:.0f} statuses/s reported for {load['seconds']:.0f} s: "
        f"{batches} batches, p50 {load['p50_ms']:.0f} ms, p99 {load['p99_ms']:.0f} ms from when each was due"
    )
    yield (
        f"{found['opened']['opened']} sockets were open within {found['opened']['seconds']:.1f} s; "
        f"after the load every event had its number within {found['drain_seconds']:.2f} s"
    )
    yield f"\n{'sockets on':14}{'sockets':>8}{'events/s':>10}{'frames/s':>10}{'MiB/s':>8}{_TIMES}"
    for name, group in found["groups"].items():
        yield (
            f"{_TITLES[name]:14}{group['sockets']:8}{group['events'] / seconds:10.0f}{group['frames'] / seconds:10.0f}"
            f"{group['bytes'] / seconds / 2**20:8.1f}{_number(group['p50_ms'])}{_number(group['p99_ms'])}"
            f"{_number(group['max_ms'])}"
        )
    yield "Events and frames as they arrive at all sockets together; times from an event's created_at to the client."


def _memory(found: Mapping[str, Any]) -> Iterator[str]:
    sockets, seconds = found["opened"]["opened"], found["seconds"]
    cpu = found["cpu_seconds"]
    yield f"{'MiB resident':20}{'no socket':>10}{'idle':>8}{'peak':>8}{'growth/min':>12}{'busy cores':>12}"
    for each in found["memory"]:
        name = each["process"]
        yield (
            f"{name:20}{each['before_mib']:10.1f}{each['idle_mib']:8.1f}{each['peak_mib']:8.1f}"
            f"{each['growth_mib_per_minute']:12.2f}{cpu[name] / seconds:12.3f}"
        )
    for name in cpu.keys() - {each["process"] for each in found["memory"]}:
        yield f"{name:20}{'':38}{cpu[name] / seconds:12.3f}"
    live = next(each for each in found["memory"] if each["process"] == "live")
    yield (
        f"Live has {(live['idle_mib'] - live['before_mib']) * 1024 / sockets:.0f} KiB for each idle socket, "
        f"{(live['peak_mib'] - live['before_mib']) * 1024 / sockets:.0f} KiB under load. Growth is that of the second "
        f"half of {found['plan']['seconds']:.0f} s."
    )


def _targets(found: Mapping[str, Any]) -> Iterator[str]:
    for name, group in found["groups"].items():
        met = group["p99_ms"] is not None and group["p99_ms"] < P99_MS
        yield f"{_verdict(met)}  sockets on {_TITLES[name]}: p99 under {P99_MS} ms"
    yield f"{_verdict(not found['errors'])}  every event delivered to every socket, in order, and no socket closed"
    if found["plan"]["seconds"] >= LONG:
        grown = [each for each in found["memory"] if each["growth_mib_per_minute"] > GROWTH]
        ours = [each["process"] for each in grown if each["process"] != POSTGRES]  # it may fill its shared buffers
        minutes = f"no growth over {found['plan']['seconds'] / 60:.0f} minutes"
        yield f"{_verdict(not ours)}  {': '.join([minutes, *ours])}"
    else:
        yield f"{'not measured':>13}  no growth: takes --seconds {LONG}"


def _verdict(met: bool) -> str:
    return f"{'met' if met else 'MISSED':>13}"


def _number(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.0f'):>9}"
