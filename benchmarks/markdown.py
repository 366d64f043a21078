"""The result of `make bench` as it stands in docs/performance.md: `.venv/bin/python -m benchmarks.markdown`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.cells import FLOOR, PEER

RESULT = Path(__file__).parent / "results" / "latest.json"
_PROCESSOR_AT = 8  # connections
_VERDICTS = {True: "met", False: "missed", None: "not measured"}

Cells = Mapping[tuple[str, str, int, int], Mapping[str, Any]]


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the machine, the targets, the throughput and the processor time."""
    machine, postgresql = report["machine"], report["postgresql"]
    yield (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_mib'] / 1024:.0f} GiB, Python "
        f"{report['python']}, PostgreSQL {postgresql['server_version']}, fsync {postgresql['fsync']}, "
        f"synchronous_commit {postgresql['synchronous_commit']}, {report['measured_at'][:10]}."
    )
    yield "\n| target, two web processes | ratio | |\n|---|---|---|"
    for target in report["targets"]:
        yield f"| {target['target']} | {_number(target['ratio'])} | {_VERDICTS[target['met']]} |"
    cells: Cells = {
        (each["subject"], each["kind"], each["size"], each["connections"]): each for each in report["cells"]
    }
    works = sorted({key[1:] for key in cells if key[0] == "web"}, key=lambda work: (work[0] != "status", *work))
    yield from _throughput(cells, works)
    yield from _processor(cells, works)


def _throughput(cells: Cells, works: list[tuple[str, int, int]]) -> Iterator[str]:
    titles = ["batches of", "connections", "web / floor", "web / FastAPI", "Daphne / floor", "web, batches/s"]
    titles += ["p50 ms", "p99 ms", "Daphne, batches/s", "FastAPI, batches/s", "floor, batches/s"]
    yield f"\n| {' | '.join(titles)} |\n|{'---|' * len(titles)}"
    for kind, size, connections in works:
        web, daphne, peer = (cells.get((name, kind, size, connections), {}) for name in ("web", "daphne", PEER))
        floor = cells.get((FLOOR, kind, size, min(connections, 2)), {})
        ratios = [
            _number(web.get("ratios", {}).get(f"batches_per_second_to_{FLOOR}")),
            _number(web.get("ratios", {}).get(f"batches_per_second_to_{PEER}")),
            _number(daphne.get("ratios", {}).get(f"batches_per_second_to_{FLOOR}")),
        ]
        times = [_number(web.get("p50_ms"), 1), _number(web.get("p99_ms"), 1)]
        others = [_number(each.get("batches_per_second"), 0) for each in (daphne, peer, floor)]
        texts = [
            f"{size} {kind}",
            str(connections),
            *ratios,
            _number(web.get("batches_per_second"), 0),
            *times,
            *others,
        ]
        yield f"| {' | '.join(texts)} |"


def _processor(cells: Cells, works: list[tuple[str, int, int]]) -> Iterator[str]:
    """Yield what each part uses for a batch."""
    groups = ("server", "worker", "postgres", "client")
    yield (
        f"\n| processor ms per batch, {_PROCESSOR_AT} connections | server | worker | PostgreSQL | load generator |"
        "\n|---|---|---|---|---|"
    )
    for kind, size, connections in works:
        if connections != _PROCESSOR_AT:
            continue
        for subject, title in ((FLOOR, "bare SQL"), (PEER, "FastAPI"), ("web", "web role"), ("daphne", "one Daphne")):
            count = min(connections, 2) if subject == FLOOR else connections
            cell = cells.get((subject, kind, size, count))
            if cell is not None:
                used = [_number(cell["cpu_seconds_per_1000_batches"].get(group) or None) for group in groups]
                yield f"| {size} {kind}, {title} | {' | '.join(used)} |"


def _number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


if __name__ == "__main__":
    for line in lines(json.loads(RESULT.read_text())):
        print(line)
