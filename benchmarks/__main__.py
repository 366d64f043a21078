"""`make bench`: the platform, bare SQL and, if it is there, a FastAPI peer, side by side in one interleaved run.

    .venv/bin/python -m benchmarks [--only status:10:8] [--servers web granian] [--output DIR]

Prints a table and writes a JSON file and an SVG: a whole run latest.*, a part of one partial.*. Servers, PostgreSQL and
Valkey are its own, in a temporary folder that goes with it; `.data` is not touched.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.scratch import in_scratch


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--servers", nargs="+", metavar="NAME", help="see benchmarks/servers.py (default: daphne web)")
    options.add_argument(
        "--only", nargs="+", default=[], metavar="KIND:SIZE:CONNECTIONS", help="these cells, such as 'status:10:*'"
    )
    options.add_argument(
        "--rounds", type=int, help="how often each cell is measured (default: 3, and 9 where there is a target)"
    )
    options.add_argument("--seconds", type=float, help="of a cell in a round (default: 2)")
    options.add_argument("--no-yardsticks", action="store_true", help="leave ../shared/bench out")
    options.add_argument("--smoke", action="store_true", help="a small run that shows that all of it works")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="a folder")
    return options


def main() -> int:
    """Run in a data directory of its own."""
    given = _options().parse_args()

    def run(_: Path) -> int:
        from benchmarks.bench import bench

        return bench(given)

    return in_scratch(run)


if __name__ == "__main__":
    sys.exit(main())
