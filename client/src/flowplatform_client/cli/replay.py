"""`flowplatform replay`."""

import math
from pathlib import Path

import click

from flowplatform_client import FlowPlatform
from flowplatform_client.cli.connection import connected
from flowplatform_client.cli.exits import FAILED, INTERRUPTED, USAGE, CommandError
from flowplatform_client.cli.output import as_json, print_json
from flowplatform_client.cli.progress import progress
from flowplatform_client.replay.schedule import Schedule, speed_for
from flowplatform_client.replay.session import Result, register
from flowplatform_client.replay.session import replay as play
from flowplatform_client.replay.telling import announcement, summary
from flowplatform_client.replay.wfformat import TraceError, read_trace

PATIENCE_SECONDS = 30.0
MOST_EXECUTIONS = 1_000


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--speed", type=float, metavar="X", help="So many times as fast as recorded (default: it lasts about 20 s)."
)
@click.option(
    "--executions",
    type=click.IntRange(1, MOST_EXECUTIONS),
    default=1,
    show_default=True,
    metavar="K",
    help="Play it K times at once.",
)
@as_json
def replay(file: Path, speed: float | None, executions: int, as_json: bool) -> None:
    """Play the WfFormat 1.5 trace FILE, and compare what the platform shows with it."""
    if speed is not None and not (math.isfinite(speed) and speed > 0):
        raise CommandError("--speed must be a number above 0", USAGE)
    try:
        trace = read_trace(file)
    except TraceError as error:
        raise CommandError(str(error).removesuffix(".")) from error
    schedule = Schedule(trace, speed or speed_for(trace))
    with connected(patience_seconds=PATIENCE_SECONDS) as platform:
        try:
            result = _played(platform, schedule, executions, as_json)
        except KeyboardInterrupt:
            sentence = "interrupted: the executions that were still playing are marked cancelled"
            raise CommandError(sentence, INTERRUPTED) from None
    if result.differences:
        raise CommandError("\n".join(["the final state differs from the trace:", *result.differences]), FAILED)


def _played(platform: FlowPlatform, schedule: Schedule, executions: int, as_json: bool) -> Result:
    for note in schedule.trace.notes:
        click.echo(f"Note: {note}", err=True)
    click.echo(announcement(schedule, executions), err=as_json)
    flow = register(platform, schedule.trace)
    page = platform.flow_page(flow.id)
    click.echo(f"Watch it at {page}", err=as_json)
    with progress(len(schedule.updates) * executions, "statuses") as on_sent:
        result = play(platform, flow, schedule, executions, on_sent)
    if as_json:
        print_json(
            {
                "flow_id": flow.id,
                "executions": result.execution_ids,
                "statuses": len(schedule.updates) * executions,
                "batches": result.played.batches,
                "seconds": result.played.seconds,
                "equal": not result.differences,
            }
        )
    else:
        click.echo(summary(result, schedule, page))
    return result
