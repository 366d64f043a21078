"""`manage.py replay FILE`: play a recorded workflow through the public API, then compare the outcome with it."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from flowplatform.demo.api import ApiError, ConnectionSettingError, FlowApi, UnreachableError
from flowplatform.replay.player import MAX_CONNECTIONS
from flowplatform.replay.schedule import Schedule, critical_path_seconds, speed_for
from flowplatform.replay.session import Result, register, replay
from flowplatform.replay.target import Target, TargetError, target
from flowplatform.replay.wfformat import TraceError, read_trace
from flowplatform.supervisor import PlatformError

PATIENCE_SECONDS = 30.0
MAX_EXECUTIONS = 1_000
INTERRUPTED_CODE = 130  # what a shell expects of a program that Ctrl-C ended

_FAILURES = (TraceError, TargetError, ConnectionSettingError, PlatformError, ApiError, UnreachableError)
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
            with target(url, token, data_dir=settings.DATA_DIR) as server, closing(self._client(server)) as api:
                self._play(api, Schedule(trace, speed or speed_for(trace)), executions)
        except _FAILURES as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            raise CommandError(_INTERRUPTED, returncode=INTERRUPTED_CODE) from None

    def _client(self, server: Target) -> FlowApi:
        return FlowApi(
            server.url,
            server.token,
            patience_seconds=PATIENCE_SECONDS,
            connections=MAX_CONNECTIONS,
            on_wait=self.stderr.write,
        )

    def _play(self, api: FlowApi, schedule: Schedule, executions: int) -> None:
        """Say what is about to happen, play, and say what happened; raise `CommandError` if the outcome differs."""
        for note in schedule.trace.notes:
            self.stderr.write(f"Note: {note}")
        self.stdout.write(_announcement(schedule, executions))
        flow = register(api, schedule.trace)
        self.stdout.write(f"Watch it at {api.flow_page(flow['id'])}")
        self.stdout.flush()
        result = replay(api, flow, schedule, executions)
        self.stdout.write(_summary(result, schedule, api.flow_page(flow["id"])))
        if result.differences:
            raise CommandError("\n".join(["The final state differs from the trace:", *result.differences]))


def _announcement(schedule: Schedule, executions: int) -> str:
    """Say how long it will last."""
    trace = schedule.trace
    times = "" if executions == 1 else f", {executions:,} executions at once"
    return (
        f"{trace.name}: {len(trace.tasks):,} tasks, critical path {critical_path_seconds(trace):,.1f} s{times}."
        f" Played {schedule.speed:,.4g} times as fast as recorded it lasts about {schedule.duration_seconds:,.1f} s"
        " (--speed changes that)."
    )


def _summary(result: Result, schedule: Schedule, page: str) -> str:
    """Return what was sent, how the server answered, and whether the outcome is right."""
    played = result.played
    statuses = len(schedule.updates) * result.executions
    return "\n".join(
        [
            f"flow page           {page}",
            f"tasks               {len(schedule.trace.tasks):,} in {result.executions:,} execution(s)",
            f"statuses sent       {statuses:,} in {played.batches:,} batches",
            f"seconds             {played.seconds:.1f}",
            f"statuses/s          {statuses / played.seconds:,.1f}",
            f"latency ms          p50 {played.latency_ms(50):.1f}, p99 {played.latency_ms(99):.1f}",
            f"final state equals the trace: {'no' if result.differences else 'yes'}",
        ]
    )
