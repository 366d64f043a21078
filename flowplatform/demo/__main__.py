"""The command line of the demo worker: `python -m flowplatform.demo --url URL --reports DIR`."""

import argparse
import math
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from flowplatform_client import FlowPlatform, FlowPlatformError, RetryPolicy
from flowplatform_client.address import plain_http_is_allowed

from flowplatform.demo.documents import DOCUMENT_SUFFIXES, Library
from flowplatform.demo.marker import AlreadyWorkingError, WorkMarker
from flowplatform.demo.worker import Worker, say


class ArgumentError(Exception):
    """An argument cannot be used. The text is one sentence."""


def main() -> int:
    """Work until a signal; return the exit code: 0 after SIGTERM or Ctrl-C, 1 after a refusal (one sentence)."""
    arguments = _parser().parse_args()
    for signum in (signal.SIGTERM, signal.SIGINT):
        signal.signal(signum, _stop)
    try:
        worker = _worker(arguments)
        worker.run()
    except KeyboardInterrupt:
        say("stopped")
        return 0
    except (FlowPlatformError, AlreadyWorkingError, ArgumentError) as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(f"{error.filename or arguments.reports}: {error.strerror}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flowplatform.demo",
        description=(
            f"Checks folders of documents ({' '.join(DOCUMENT_SUFFIXES)}) and reports every step to Flow Platform."
            " The service token is read from the environment variable FLOWPLATFORM_TOKEN."
        ),
    )
    parser.add_argument("--url", required=True, help="address of the server, such as http://127.0.0.1:8000")
    parser.add_argument("--reports", required=True, type=Path, metavar="DIR", help="where the reports are written")
    parser.add_argument(
        "--input", type=Path, metavar="DIR", help="folder to check (default: the documents of this project)"
    )
    parser.add_argument(
        "--pace",
        type=float,
        default=0.4,
        metavar="SECONDS",
        help="the checks take milliseconds, so the worker waits this long before and after each task,"
        " only for people to see it move; 0 works at full speed (default: %(default)s)",
    )
    return parser


def _worker(arguments: argparse.Namespace) -> Worker:
    """Return the worker that the arguments ask for; raise what `main` tells in one sentence."""
    token = os.environ.get("FLOWPLATFORM_TOKEN", "").strip()
    if not token:
        raise ArgumentError("the environment variable FLOWPLATFORM_TOKEN must hold a service token")
    if not math.isfinite(arguments.pace) or arguments.pace < 0:
        raise ArgumentError("--pace must be a number of seconds, 0 or more")
    if arguments.input and not arguments.input.is_dir():
        raise ArgumentError(f"the input folder {arguments.input} does not exist")
    reports = arguments.reports.absolute()
    return Worker(
        _platform(arguments.url, token),
        library=Library(arguments.input.absolute()) if arguments.input else Library.of_project(),
        reports=reports,
        marker=WorkMarker(reports),
        pace_seconds=arguments.pace,
    )


def _platform(url: str, token: str) -> FlowPlatform:
    """Return the server to report to; it may be away for as long as it likes."""
    return FlowPlatform(
        url,
        token,
        retries=RetryPolicy.for_ever(),
        connections=2,
        allow_plain_http=plain_http_is_allowed(),
        on_wait=lambda reason: say(f"waiting for the server at {url}: {reason}"),
    )


def _stop(signum: int, frame: FrameType | None) -> None:
    """End the work wherever it is. A second signal changes nothing: the first one already ends the process."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _refuse(reason: str) -> int:
    print(f"demo worker: {reason}", file=sys.stderr, flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main())
