"""`manage.py replay FILE`: play a recorded workflow through the public API, then compare the outcome with it."""

import math
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from flowplatform_client import FlowPlatform, FlowPlatformError, RetryPolicy
from flowplatform_client.address import plain_http_is_allowed
from flowplatform_client.cli.progress import progress
from flowplatform_client.replay.player import MAX_CONNECTIONS
from flowplatform_client.replay.schedule import Schedule, speed_for
from flowplatform_client.replay.session import register, replay
from flowplatform_client.replay.telling import announcement, summary
from flowplatform_client.replay.wfformat import TraceError, read_trace

from flowplatform.replay.target import Target, TargetError, target
from flowplatform.supervisor import PlatformError

PATIENCE_SECONDS = 30.0
MAX_EXECUTIONS = 1_000
INTERRUPTED_CODE = 130  # what a shell expects of a program that Ctrl-C ended

_FAILURES = (TraceError, TargetError, PlatformError, FlowPlatformError)
_INTERRUPTED = "Interrupted: the executions that were still playing are marked cancelled."


class Command(BaseCommand):
    """Reads the trace, finds the server, plays, and prints what came of it."""

    help = (
        "Plays a WfFormat 1.5 trace through the public API and compares what the platform shows with the trace."
        " Without --url it uses the running `manage.py up` of the data directory, or starts the platform for as long"
        " as the replay lasts."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="a trace in WfFormat 1.5")
        parser.add_argument(
            "--speed", type=float, help="how many times as fast as recorded (default: so that it lasts about 20 s)"
        )
        parser.add_argument(
            "--executions", type=int, default=1, metavar="K", help="play it K times at once (default 1)"
        )
        parser.add_argument("--url", help="address of the server, such as http://127.0.0.1:8000")
        parser.add_argument("--token", help="service token (default: the environment variable FLOWPLATFORM_TOKEN)")

    def handle(
        self, *, file: Path, speed: float | None, executions: int, url: str | None, token: str | None, **options: Any
    ) -> None:
        """Play the trace. Every failure is one sentence and a non-zero exit."""
        if speed is not None and not (math.isfinite(speed) and speed > 0):
            raise CommandError("--speed must be a number above 0.")
        if not 1 <= executions <= MAX_EXECUTIONS:
            raise CommandError(f"--executions must be from 1 to {MAX_EXECUTIONS:,}.")
        try:
            trace = read_trace(file)
            with target(url, token, data_dir=settings.DATA_DIR) as server, self._client(server) as platform:
                self._play(platform, Schedule(trace, speed or speed_for(trace)), executions)
        except _FAILURES as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError(_INTERRUPTED, returncode=INTERRUPTED_CODE) from None

    def _client(self, server: Target) -> FlowPlatform:
        return FlowPlatform(
            server.url,
            server.token,
            retries=RetryPolicy(attempts=math.inf, total_seconds=PATIENCE_SECONDS),
            connections=MAX_CONNECTIONS,
            allow_plain_http=plain_http_is_allowed(),
            on_wait=lambda reason: self.stderr.write(f"waiting for the server at {server.url}: {reason}"),
        )

    def _play(self, platform: FlowPlatform, schedule: Schedule, executions: int) -> None:
        """Say what is about to happen, play, and say what happened; raise `CommandError` if the outcome differs."""
        for note in schedule.trace.notes:
            self.stderr.write(f"Note: {note}")
        self.stdout.write(announcement(schedule, executions))
        flow = register(platform, schedule.trace)
        page = platform.flow_page(flow.id)
        self.stdout.write(f"Watch it at {page}")
        self.stdout.flush()
        with progress(len(schedule.updates) * executions, "statuses") as on_sent:
            result = replay(platform, flow, schedule, executions, on_sent)
        self.stdout.write(summary(result, schedule, page))
        if result.differences:
            raise CommandError("\n".join(["The final state differs from the trace:", *result.differences]))
