"""`make bench-live`: 1,000 sockets while workers report 1,000 statuses a second. How late are they, and is all there?

    .venv/bin/python -m benchmarks.live [--seconds 600] [--web] [--only one-flow] [--output FILE]

500 sockets watch one flow and 500 watch 100 flows, five each, all at once over one live process. Half of the batches
are of the one flow, half of the others. Every socket checks every offset. Times count from an event's `created_at`,
which the database writes just before the commit, to the client. PostgreSQL, Valkey and all processes are its own, in a
temporary folder.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.scratch import in_scratch


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.live", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--seconds", type=float, default=40.0, help="of load (default: 40)")
    options.add_argument("--sockets", type=int, default=500, help="on one flow, and as many over the others")
    options.add_argument("--flows", type=int, default=100, help="how many the others are")
    options.add_argument("--statuses", type=int, default=1000, help="a second, in batches of ten (default: 1000)")
    options.add_argument("--only", choices=("one-flow", "many-flows"), help="these sockets, and all batches for them")
    options.add_argument("--web", action="store_true", help="report to the web role, not to the live process")
    options.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results" / "live.json", help="where the result goes"
    )
    return options


def main() -> int:
    """Run in a data directory of its own."""
    given = _options().parse_args()

    def run(_: Path) -> int:
        from benchmarks.live_run import run

        return run(given)

    return in_scratch(run)


if __name__ == "__main__":
    sys.exit(main())
