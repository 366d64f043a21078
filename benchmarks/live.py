"""`make bench-live`: 1,000 sockets while workers report 1,000 statuses a second. How late are they, and is all there?

    .venv/bin/python -m benchmarks.live [--seconds 600] [--web] [--only one-flow] [--output FILE]

500 sockets watch one flow and 500 watch 100 flows, five each, all at once over one live process. Half of the batches
are of the one flow, half of the others. Every socket checks every offset. Times count from an event's `created_at`,
which the database writes just before the commit, to the client. PostgreSQL, Valkey and all processes are its own, in a
temporary folder.
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
        from benchmarks.live_run import run

        return run(given)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
