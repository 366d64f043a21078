"""`make bench`: the platform, bare SQL and, if it is there, a FastAPI peer, side by side in one interleaved run.

    .venv/bin/python -m benchmarks [--only status:10:8] [--servers web granian] [--output DIR]

Prints a table and writes a JSON file and an SVG: a whole run latest.*, a part of one partial.*. Servers, PostgreSQL and
Valkey are its own, in a temporary folder that goes with it; `.data` is not touched.
"""

import argparse
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

_FOREIGN = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ALLOWED_HOSTS", "FLOWPLATFORM_ROLE", "DEBUG")


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--servers", nargs="+", metavar="NAME", help="see benchmarks/servers.py (default: daphne web)")
    options.add_argument(
        "--only", nargs="+", default=[], metavar="KIND:SIZE:CONNECTIONS", help="these cells, such as 'status:10:*'"
    )
    options.add_argument("--rounds", type=int, help="how often each cell is measured (default: 3)")
    options.add_argument("--seconds", type=float, help="of a cell in a round (default: 2)")
    options.add_argument("--no-yardsticks", action="store_true", help="leave ../shared/bench out")
    options.add_argument("--smoke", action="store_true", help="a small run that shows that all of it works")
    options.add_argument("--output", type=Path, default=Path(__file__).parent / "results", help="a folder")
    return options


def main() -> int:
    """Make a data directory, tell Django of it before its settings are read, and run."""
    given = _options().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else nobody would stop the servers
    home = Path(tempfile.mkdtemp(prefix="flowplatform-bench-"))
    for variable in _FOREIGN:
        os.environ.pop(variable, None)
    os.environ.update(FLOWPLATFORM_DATA_DIR=str(home), DJANGO_SETTINGS_MODULE="flowplatform.settings")
    try:
        import django

        django.setup()
        from benchmarks.bench import bench

        return bench(given)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
