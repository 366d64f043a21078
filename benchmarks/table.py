"""The result as text for a terminal."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from benchmarks.cells import FLOOR, FLOORS, PEER, YARDSTICK_FLOOR
from benchmarks.servers import SERVERS

TITLES = {
    FLOOR: "bare SQL: the floor",
    YARDSTICK_FLOOR: "yardstick: bare SQL",
    PEER: "yardstick: FastAPI",
    **{name: server.title for name, server in SERVERS.items()},
}
_VERDICTS = {True: "met", False: "MISSED", None: "not measured"}
_HEAD = (
    f"{'':32}{'conn.':>6}{'batches/s':>11}{'p50 ms':>9}{'p99 ms':>9}{'x floor':>9}{'p50 x':>7}{'x FastAPI':>11}"
    f"   {'server':>8}{'worker':>8}{'postgres':>10}{'client':>8}{'busiest':>9}"
)
_NOTE = """\
x floor, x FastAPI: throughput as a share of theirs; p50 x: the time as a multiple of the floor's. One connection is
held against one process of the floor, more against two; the connections of a floor are its processes. Right: seconds of
processor time per 1000 batches, the numbering of their events included; busiest: the share of a core that the busiest
process of the server had."""


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table, the memory and the targets."""
    cells = sorted(report["cells"], key=lambda cell: (cell["kind"] != "status", cell["size"]))
    machine, postgresql = report["machine"], report["postgresql"]
    yield (
        f"{machine['cores']} cores of {machine['cpu']}, PostgreSQL {postgresql['server_version']} on "
        f"{machine['file_system_of_the_database']}, fsync {postgresql['fsync']}, "
        f"synchronous_commit {postgresql['synchronous_commit']}; load before: {machine['load_before']}"
    )
    for (kind, size), group in groupby(cells, key=lambda cell: (cell["kind"], cell["size"])):
        yield f"\n{kind} batches of {size}"
        yield _HEAD
        yield from map(_row, sorted(group, key=lambda cell: (_place(cell["subject"]), cell["connections"])))
    yield f"\n{_NOTE}\n"
    yield from _memory(report)
    idle = ", ".join(f"{group} {cores:.3f}" for group, cores in report["idle_busy_cores"].items())
    yield f"\nBusy cores while nobody asks: {idle}\n"
    for target in report["targets"]:
        if target["met"] is None and report["plan"]["only"]:
            continue
        ratio = "" if target["ratio"] is None else f"{target['ratio']:.2f}"
        other = target.get("ratio_to_yardstick_floor")
        aside = "" if other is None else f" ({other:.2f} x the yardstick's bare SQL)"
        yield f"{_VERDICTS[target['met']]:>13} {ratio:>6}  {target['server']}: {target['target']}{aside}"
    for line in report["left_out"]:
        yield f"     left out         {line}"
    for line in report["errors"]:
        yield f"ERROR {line}"


def _place(subject: str) -> int:
    return list(TITLES).index(subject)


def _row(cell: Mapping[str, Any]) -> str:
    ratios, cpu = cell["ratios"], cell["cpu_seconds_per_1000_batches"]
    own = cell["subject"] in FLOORS
    busiest = [each["busiest_server_process"] for each in cell["rounds"] if each["busiest_server_process"] is not None]
    return (
        f"{TITLES[cell['subject']]:32}{cell['connections']:6}{cell['batches_per_second']:11.0f}"
        f"{_number(cell['p50_ms'], 9)}{_number(cell['p99_ms'], 9)}"
        f"{_number(ratios.get(f'batches_per_second_to_{FLOOR}'), 9)}{_number(ratios.get(f'p50_ms_to_{FLOOR}'), 7, 1)}"
        f"{_number(ratios.get(f'batches_per_second_to_{PEER}'), 11)}"
        f"   {_number(None if own else cpu.get('server'), 8)}{_number(None if own else cpu.get('worker'), 8)}"
        f"{_number(cpu.get('postgres'), 10)}{_number(cpu.get('client'), 8)}{_number(max(busiest, default=None), 9)}"
    )


def _number(value: float | None, width: int, digits: int = 2) -> str:
    return f"{'-' if value is None else format(value, f'.{digits}f'):>{width}}"


def _memory(report: Mapping[str, Any]) -> Iterator[str]:
    yield "Peak resident memory of each process (MiB)"
    for group in report["memory"]:
        peaks = group["peak_rss_mib"]
        shown = " ".join(f"{peak:.0f}" for peak in peaks[:8]) or "unknown: there is no /proc here"
        more = f" … {len(peaks)} processes" if len(peaks) > 8 else ""
        yield f"  {TITLES.get(group['group'], group['group']):40} {shown}{more}"
    together = report["postgres_proportional_peak_mib"]
    yield f"  {'postgres together, shared pages once':40} {together:.0f}"
