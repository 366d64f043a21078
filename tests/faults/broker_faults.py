"""Faults of the broker and of what goes over it: hints may be lost, late and repeated, and Valkey may be anything."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import celery

from tests.faults.stage import WORKERS, Stage
from tests.faults.trial import TASKS, Fault, Trial

_REQUESTS = 20
_FIRST, _FIRST_SECONDS = 3, 1.5  # the limits for answers while the broker is away
_OTHER_SECONDS = 0.3
_AWAY_SECONDS, _USUAL_SECONDS = 15.0, 2.0  # the contract's promise of delivery, without and with a broker


def _answers_do_not_wait(trial: Trial) -> None:
    """Report while the broker is away, and hold the answers against their limits."""
    writer, before = trial.writer(), len(trial.ledger.seen)
    for number in range(_REQUESTS):
        writer.report(trial.place.executions[number % len(trial.place.executions)], TASKS)
    seconds = [one.answer.seconds for one in trial.ledger.seen[before:]]
    trial.limit(f"the first {_FIRST} answers", max(seconds[:_FIRST]), _FIRST_SECONDS)
    trial.limit("the answers after them", max(seconds[_FIRST:]), _OTHER_SECONDS)
    writer.close()


def _away(trial: Trial, leave: Callable[[Stage], None], come_back: Callable[[Stage], None]) -> None:
    trial.watch()
    trial.delivery("usual delivery", _USUAL_SECONDS)
    leave(trial.stage)
    try:
        _answers_do_not_wait(trial)
        trial.delivery("delivery meanwhile", _AWAY_SECONDS)
    finally:
        come_back(trial.stage)
    trial.over()
    trial.soon_usual("usual delivery again", _USUAL_SECONDS, within=_AWAY_SECONDS)


def refused(trial: Trial) -> None:
    _away(trial, lambda stage: stage.broker("refuse"), lambda stage: stage.broker("pass"))


def swallowed(trial: Trial) -> None:
    _away(trial, lambda stage: stage.broker("swallow"), lambda stage: stage.broker("pass"))


def paused(trial: Trial) -> None:
    _away(trial, lambda stage: stage.valkey.signal(signal.SIGSTOP), lambda stage: stage.valkey.signal(signal.SIGCONT))


def restarted(trial: Trial) -> None:
    """Valkey dies with all that is in it, and another one comes."""
    trial.watch()
    with trial.load():
        trial.stage.valkey.stop()
        time.sleep(trial.size.outage)
        trial.stage.valkey.start()
        trial.over()
        time.sleep(trial.size.outage)
    trial.soon_usual("usual delivery again", _USUAL_SECONDS, within=_AWAY_SECONDS)


def flushed(trial: Trial) -> None:
    """Everything in Valkey is lost, again and again, and it goes on."""
    trial.watch()
    with trial.load():
        for _ in range(10):
            trial.stage.valkey.flush()
            time.sleep(trial.size.outage / 5)
        trial.over()


@contextmanager
def _still(trial: Trial, *names: str) -> Iterator[None]:
    """Have processes stand still for the duration of a with statement."""
    for name in names:
        trial.stage.processes.signal(name, signal.SIGSTOP)
    try:
        yield
    finally:
        for name in names:
            trial.stage.processes.signal(name, signal.SIGCONT)


def hints_lost(trial: Trial) -> None:
    """Nobody hears a single hint: the sweep, or a look of the live processes, finds what waits.

    The workers are killed, not stopped: Valkey would put the hints into the hands of a worker that stands still.
    """
    trial.watch()
    for name in WORKERS:
        trial.stage.processes.kill(name)
    writer = trial.writer()
    for execution in trial.place.executions:
        writer.report(execution, TASKS)
    writer.close()
    time.sleep(0.5)  # the notifier has spoken by now
    trial.stage.valkey.flush()
    trial.stage.processes.start(*WORKERS)
    trial.over()
    trial.reached("delivery without a hint", _AWAY_SECONDS)


def hints_repeated(trial: Trial) -> None:
    """Every hint comes many times over, and so do hints about nothing."""
    trial.watch()
    broker = celery.Celery(broker=f"redis+socket://{trial.stage.valkey.socket}?virtual_host=0")
    with trial.load(), broker.connection_for_write() as connection:
        for _ in range(40 * trial.size.rounds):
            broker.send_task("notifications.relay", args=[[trial.place.flow_id]], connection=connection)
            time.sleep(0.01)
        trial.over()
    broker.close()


def nobody_relays(trial: Trial) -> None:
    """Worker and beat stand still, and there are large events: live processes number and read for themselves."""
    trial.watch()
    with _still(trial, *WORKERS, "beat"):
        trial.delivery("delivery without Celery", _AWAY_SECONDS)
        trial.flood(8)
        trial.delivery("delivery of 8 MiB without Celery", _AWAY_SECONDS)
    if any(watcher.closes for watcher in trial.audience.watchers):
        trial.problem("sockets that read were closed while they caught up")


def many_flows_alone(trial: Trial) -> None:
    """Twenty flows are watched while neither Celery nor Valkey works: the last is served as soon as the first."""
    trial.stage.valkey.signal(signal.SIGSTOP)
    try:
        with _still(trial, *WORKERS, "beat"):
            for place in [trial.make_place(1) for _ in range(20)]:
                trial.watch(1, place=place, wait=False)
            trial.delivery("delivery to the last of 20 flows", _AWAY_SECONDS, place=trial.places[-1])
    finally:
        trial.stage.valkey.signal(signal.SIGCONT)


_NUMBER = """
    WITH numbered AS (
        UPDATE notifications_event AS event SET "offset" = stream."offset" + 1
        FROM notifications_stream AS stream
        WHERE event.flow_id = stream.flow_id AND event.flow_id = %s AND event."offset" IS NULL
        RETURNING event.flow_id, event."offset"
    )
    UPDATE notifications_stream AS stream SET "offset" = numbered."offset" FROM numbered
    WHERE stream.flow_id = numbered.flow_id
"""


def numbered_never_sent(trial: Trial) -> None:
    """A relay dies between its two halves: the event has its number, and nobody was told."""
    trial.watch()
    trial.delivery("usual delivery", _USUAL_SECONDS)
    with _still(trial, *WORKERS, "beat"):
        writer = trial.writer()
        writer.report(trial.place.executions[0], TASKS)
        writer.close()
        with trial.stage.postgres.connect() as database:
            database.execute(_NUMBER, [trial.place.flow_id])
        trial.reached("delivery by the sockets' own look", _AWAY_SECONDS)
    trial.over()


FAULTS = (
    Fault("broker refused", "Valkey refuses connections", refused),
    Fault("broker swallowed", "Valkey accepts and never answers", swallowed),
    Fault("broker paused", "Valkey stands still (SIGSTOP)", paused),
    Fault("broker restarted", "Valkey is killed and started again, empty", restarted),
    Fault("broker flushed", "FLUSHALL, ten times", flushed),
    Fault("hints lost", "every hint to the relay is lost", hints_lost),
    Fault("hints repeated", "hints to the relay come many times", hints_repeated),
    Fault("relay died halfway", "a relay dies after numbering, before sending", numbered_never_sent),
    Fault("nobody relays", "workers and beat stand still, 8 MiB of events", nobody_relays),
    Fault("many flows alone", "20 flows; workers, beat and Valkey stand still", many_flows_alone),
)
