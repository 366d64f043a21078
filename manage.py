#!/usr/bin/env python
"""The project's command line. Every command finds PostgreSQL and Valkey running; if need be, embedded ones start."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from flowplatform import role
from flowplatform.embedded import EmbeddedError, servers

# What needs neither server, or (up, replay) brings them up itself, if and when it needs them.
WITHOUT_SERVERS = {
    "", "check", "collectstatic", "compilemessages", "diffsettings", "findstatic", "help", "makemessages",
    "replay",
    "spectacular", "startapp", "up", "version", "--version",
}  # fmt: skip


def main() -> int:
    """Run the command of the command line and return its exit code."""
    arguments = _take_data_dir(sys.argv[1:])
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")
    role.claim("command")
    # As if the command had called sys.exit(): servers that nobody else uses are stopped on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        _run(arguments)
    except EmbeddedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0


def _take_data_dir(arguments: Sequence[str]) -> list[str]:
    """Take --data-dir DIR out of the arguments of any command: the settings read it from the environment."""
    parser = argparse.ArgumentParser(prog="manage.py", add_help=False, allow_abbrev=False)
    parser.add_argument("--data-dir", type=Path, metavar="DIR")
    taken, others = parser.parse_known_args(arguments)
    if taken.data_dir is not None:
        os.environ["FLOWPLATFORM_DATA_DIR"] = str(taken.data_dir.expanduser().absolute())
    return others


def _run(arguments: Sequence[str]) -> None:
    # Not at the top: the environment has to be complete first.
    from django.core.management import execute_from_command_line

    from flowplatform import env

    command = arguments[0] if arguments else ""
    is_alone = command in WITHOUT_SERVERS or not {"-h", "--help"}.isdisjoint(arguments)
    with servers(
        env.DATA_DIR,
        postgres=not (is_alone or env.DATABASE_URL),
        valkey=not (is_alone or env.REDIS_URL),
    ):
        execute_from_command_line([sys.argv[0], *arguments])


if __name__ == "__main__":
    sys.exit(main())
