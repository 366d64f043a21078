"""A process with a reporter, for `benchmarks.reporter`: it is told its job, and answers with what it measured.

`overhead` times calls of `status`; `throughput` reports as fast as it is sent; `outage` reports at an even pace and
waits until everything is sent.
"""

import logging
import time
from collections.abc import Callable
from typing import Any

from flowplatform_client import FlowPlatform
from flowplatform_client.reporter import Reporter

from benchmarks.sample import Sample, Stopwatch, client
from benchmarks.workload import TASKS

BATCH = 100
_AHEAD = 10 * BATCH  # statuses that wait while throughput is measured
_LOOK_SECONDS = 0.002
_SEND_SECONDS = 180.0


def load(job: Any, begin: Callable[[], Stopwatch]) -> Sample:
    """Do the job."""
    logging.getLogger("flowplatform_client").setLevel(logging.ERROR)  # a platform that is away is no news here
    platform = FlowPlatform(job["url"], job["token"])
    reporter = Reporter(platform, job["execution"], spool=job["spool"])
    return {"overhead": _overhead, "throughput": _throughput, "outage": _outage}[job["kind"]](reporter, job, begin)


def _overhead(reporter: Reporter, job: Any, begin: Callable[[], Stopwatch]) -> Sample:
    """Time every call. The latencies are in milliseconds, as those of all samples."""
    names = [f"task-{index}" for index in range(TASKS)]
    clock, pause, latencies = time.perf_counter, job["pause_seconds"], []
    started = begin()
    for number in range(job["calls"]):
        name = names[number % TASKS]
        before = clock()
        reporter.status(name, "running")
        latencies.append((clock() - before) * 1e3)
        if pause:
            time.sleep(pause)
    sample = started.stop()
    sample.latencies = latencies
    reporter.close(job["close_seconds"])
    return sample


def _throughput(reporter: Reporter, job: Any, begin: Callable[[], Stopwatch]) -> Sample:
    """Keep some batches ahead; count what was sent in the stretch. A latency is the mean time of a batch."""
    names = [f"task-{index}" for index in range(TASKS)]
    told = 0

    def settled_after(seconds: float) -> tuple[float, int]:
        nonlocal told
        until = time.perf_counter() + seconds
        while (now := time.perf_counter()) < until:
            while reporter.unsent < _AHEAD:
                for name in names:
                    reporter.status(name, "running")
                told += TASKS
            time.sleep(_LOOK_SECONDS)
        return now, told - reporter.unsent

    sample = begin().sample
    begun_at, before = settled_after(job["warm_up"])
    ended_at, after = settled_after(job["seconds"])
    if not reporter.flush(_SEND_SECONDS):
        sample.errors, sample.first_error = 1, "not everything was sent"
    reporter.close()
    batches = (after - before) // BATCH
    sample.seconds, sample.answered = ended_at - begun_at, told // BATCH
    sample.latencies = [round(sample.seconds / max(batches, 1) * 1e3, 3)] * batches
    return sample


def _outage(reporter: Reporter, job: Any, begin: Callable[[], Stopwatch]) -> Sample:
    """Report numbered statuses of all tasks, evenly over some seconds, and wait until everything is sent."""
    sample = begin().sample
    begun_at = time.perf_counter()
    for number in range(job["statuses"]):
        time.sleep(max(0.0, begun_at + number * job["pause_seconds"] - time.perf_counter()))
        before = time.perf_counter()
        reporter.status(f"task-{number % TASKS}", f"{job['name']}:{number}")
        sample.latencies.append((time.perf_counter() - before) * 1e3)
    if not reporter.flush(_SEND_SECONDS):
        sample.errors, sample.first_error = 1, f"{reporter.unsent} statuses were not sent"
    reporter.close()
    sample.answered = job["statuses"]
    return sample


if __name__ == "__main__":
    client(load)
