"""`make faults`: every fault at its whole size, a table of what it showed, and the same as JSON."""

import argparse
import json
import sys
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from benchmarks import machine
from tests.faults import nginx, table
from tests.faults.catalogue import FAULTS
from tests.faults.stage import stage
from tests.faults.trial import SMALL, WHOLE, Fault, Result, Size, tried


def main() -> int:
    """Try the faults; return 1 if any of them showed a problem."""
    options = argparse.ArgumentParser(prog="make faults", description=__doc__)
    options.add_argument("--only", nargs="*", default=["*"], metavar="PATTERN", help="faults by name, such as 'web*'")
    options.add_argument("--small", action="store_true", help="the size of `make test`")
    options.add_argument("--output", type=Path, metavar="FILE", default=table.RESULT, help="(default: %(default)s)")
    options.add_argument("--list", action="store_true", help="print the names and leave")
    given = options.parse_args()
    wanted = [fault for fault in FAULTS if any(fnmatch(fault.name, pattern) for pattern in given.only)]
    if given.list:
        print(*(fault.name for fault in wanted), sep="\n")
        return 0
    about = {**machine.describe(), "nginx": nginx.PROGRAM is not None}
    results = run(wanted, SMALL if given.small else WHOLE)
    report = {**about, "results": [result.as_json() for result in results]}
    print("", *table.lines(report), sep="\n")
    if given.output and not given.small:
        write(given.output, report)
    return 1 if any(result.problems for result in results) else 0


def write(path: Path, report: dict[str, Any]) -> None:
    """Write the results to a file; of a file that has others, too, only the rows of the same faults are replaced."""
    rows = {row["test"]: row for row in report["results"]}
    if path.exists():
        before = json.loads(path.read_text())
        if len(rows) < len(before["results"]):
            report = {**before, "results": [rows.get(row["test"], row) for row in before["results"]]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def run(faults: Sequence[Fault], size: Size) -> list[Result]:
    """Try faults one after the other on one stage, and say what each has shown."""
    results = []
    print("Starting PostgreSQL, Valkey and the processes of the platform…", file=sys.stderr, flush=True)
    with stage() as running:
        if not running.has_nginx:
            print(f"{nginx.MISSING}. What needs it is left out.", file=sys.stderr, flush=True)
        for fault in faults:
            if fault.needs_nginx and not running.has_nginx:
                continue
            print(f"{fault.name}: {fault.title}…", file=sys.stderr, flush=True)
            results.append(tried(running, fault, size))
            print(*table.details(results[-1].as_json()), sep="\n", flush=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
