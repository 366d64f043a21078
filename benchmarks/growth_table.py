"""The result of `make bench-growth` as text for a terminal."""

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from benchmarks.growth_reads import READS
from benchmarks.growth_run import LARGE, SMALL, WRITES


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the table, with the verdict of every line."""
    sizes = {name: f"{size['rows']:,}" for name, size in report["sizes"].items()}
    outputs = " and ".join(f"{size['outputs']:,}" for size in report["sizes"].values())
    yield f"{'history rows':50}{sizes[SMALL]:>12}{sizes[LARGE]:>14}{'ratio':>8}{'CPU':>8}"
    yield f"({outputs} task outputs; status batches of {report['plan']['updates_of_a_batch']}, medians of all rounds."
    yield "CPU: what the server and PostgreSQL work for a batch, large by small. Reads: the ratio is small by large.)"
    yield ""
    for write in WRITES:
        medians = [median(report["batches_per_second"][side][write]) for side in (SMALL, LARGE)]
        yield _line(report, f"batches/s, {write}", write, *medians)
    for read in READS:
        yield _line(report, f"p50 ms, {read}", read, *(report["read_p50_ms"][side][read] for side in (SMALL, LARGE)))
    yield ""
    for read in READS:
        found = report["plans"][LARGE][read]
        yield f"{read}: looks at {found['rows_looked_at']} rows by {', '.join(found['indexes'])}"
    for line in report["wrong"]:
        yield f"WRONG PLAN  {line}"


def _line(report: Mapping[str, Any], title: str, name: str, small: float, large: float) -> str:
    digits = 0 if small > 20 else 2
    ratio, target = report["ratios"][name], report["target"]
    verdict = f"{'met' if ratio >= target else 'MISSED'} (at least {target:g})"
    if name in report["without_target"]:
        verdict = "no target: each execution is looked up first"
    cpu = report["cpu_ratios"].get(name)
    work = "" if cpu is None else f"x {cpu:.2f}"
    return f"{title:50}{small:12.{digits}f}{large:14.{digits}f}{ratio:8.2f}{work:>8}   {verdict}"
