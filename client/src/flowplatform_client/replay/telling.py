"""What a replay says before and after: the same for `flowplatform replay` and `manage.py replay`."""

from flowplatform_client.replay.schedule import Schedule, critical_path_seconds
from flowplatform_client.replay.session import Result


def announcement(schedule: Schedule, executions: int) -> str:
    """Say how long it will last."""
    trace = schedule.trace
    times = "" if executions == 1 else f", {executions:,} executions at once"
    return (
        f"{trace.name}: {len(trace.tasks):,} tasks, critical path {critical_path_seconds(trace):,.1f} s{times}."
        f" Played {schedule.speed:,.4g} times as fast as recorded it lasts about {schedule.duration_seconds:,.1f} s"
        " (--speed changes that)."
    )


def summary(result: Result, schedule: Schedule, page: str) -> str:
    """Return what was sent, how the server answered, and whether the outcome is right."""
    played = result.played
    executions = len(result.execution_ids)
    statuses = len(schedule.updates) * executions
    return "\n".join(
        [
            f"flow page           {page}",
            f"tasks               {len(schedule.trace.tasks):,} in {executions:,} execution(s)",
            f"statuses sent       {statuses:,} in {played.batches:,} batches",
            f"seconds             {played.seconds:.1f}",
            f"statuses/s          {statuses / played.seconds:,.1f}",
            f"latency ms          p50 {played.latency_ms(50):.1f}, p99 {played.latency_ms(99):.1f}",
            f"final state equals the trace: {'no' if result.differences else 'yes'}",
        ]
    )
