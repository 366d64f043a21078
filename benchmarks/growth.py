"""`make bench-growth`: status batches and reads in a small database and in one a hundred times as large, in turn.

    .venv/bin/python -m benchmarks.growth [--rows 10000000] [--outputs 1000000] [--output DIR]

The rows are made by SQL, over twelve months. Prints a table and writes growth.json. PostgreSQL and Valkey are its own,
in a temporary folder (`--tmp DIR` says where) that goes with it; `.data` is not touched.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from benchmarks.scratch import in_scratch

_RATIO = 100  # of the sizes of both databases
_WAL_BYTES = 2_500_000_000
_ROWS_PER_SECOND = 40_000


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rows", type=int, default=10_000_000, help="history rows of the large database")
    options.add_argument("--outputs", type=int, default=1_000_000, help="task outputs of the large database")
    options.add_argument("--rounds", type=int, default=11, help="how often everything is measured (default: 11)")
    options.add_argument("--seconds", type=float, default=2.0, help="of a write in a round (default: 2)")
    options.add_argument("--reads", type=int, default=400, help="of each kind (default: 400)")
    options.add_argument("--tmp", type=Path, help="where the databases are made (default: the temporary folder)")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="a folder")
    return options


def main() -> int:
    """Run in a data directory of its own; 1 if a target is missed."""
    given = _options().parse_args()
    return in_scratch(lambda home: _bench(given, home), parent=given.tmp)


def _bench(given: argparse.Namespace, home: Path) -> int:
    from benchmarks import growth_report, growth_rows, growth_run, growth_table, machine
    from benchmarks.runner import say

    large = growth_rows.Size.of(given.rows, given.outputs)
    small = growth_rows.Size.of(large.rows // _RATIO, large.outputs // _RATIO)
    plan = growth_run.Plan(
        sizes={growth_run.SMALL: small, growth_run.LARGE: large},
        rounds=given.rounds,
        seconds=given.seconds,
        warm_up=min(0.5, given.seconds),
        reads=given.reads,
    )
    about = machine.describe()
    needed = large.rows * growth_rows.BYTES_OF_ROW + large.outputs * growth_rows.BYTES_OF_OUTPUT + _WAL_BYTES
    minutes = (large.rows / _ROWS_PER_SECOND + plan.rounds * 8 * (plan.seconds + 2) + 8 * plan.reads * 0.01) / 60
    say(f"This takes {needed / 1e9:.1f} GB of disk in {home.parent} and about {minutes:.0f} minutes.")
    free = shutil.disk_usage(home).free
    if free < needed:
        say(f"There are only {free / 1e9:.1f} GB free: choose a smaller --rows, or another folder with --tmp.")
        return 2
    found = about | growth_report.report(plan, *growth_run.run(plan))
    for line in growth_table.lines(found):
        print(line)
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / "growth.json"
    path.write_text(f"{json.dumps(found, indent=1)}\n")
    say(f"written: {path}")
    return 1 if found["missed"] or found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
