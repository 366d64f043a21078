"""Faults of PostgreSQL and of the way to it: 503 with Retry-After within 2.5 s, never 500, and soon well again."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from tests.faults.stage import Stage
from tests.faults.trial import Fault, Trial

_ANSWER_SECONDS = 2.5
_RECOVERY_SECONDS = 5.0
_SILENCE_SECONDS = 7.0  # that a server is waited for which says nothing: longer than its own time limit for a statement


def _unavailable(
    trial: Trial,
    hurt: Callable[[Stage], None],
    heal: Callable[[Stage], None] = lambda _: None,
    most: float = _ANSWER_SECONDS,
) -> None:
    """Hurt the database under load, for a while; then everything has to be well within five seconds."""
    trial.may_answer(503, 409)
    trial.watch()
    with trial.load():
        hurt(trial.stage)
        time.sleep(trial.size.outage)
        heal(trial.stage)
        trial.recover(_RECOVERY_SECONDS)
    trial.limit("the longest answer", trial.ledger.longest(), most)


def restarted(trial: Trial) -> None:
    """PostgreSQL shuts down in immediate mode, as if it crashed, and recovers."""
    _unavailable(trial, lambda stage: stage.postgres.crash(), lambda stage: stage.postgres.start())
    if not trial.ledger.statuses()[503]:
        trial.problem("nobody noticed that the database was away")


def terminated(trial: Trial) -> None:
    """An administrator ends every connection, three times."""

    def terminate(stage: Stage) -> None:
        for _ in range(3):
            stage.postgres.terminate_backends()
            time.sleep(0.3)

    _unavailable(trial, terminate)


def exhausted(trial: Trial) -> None:
    """Somebody else holds every connection, and those that the threads kept are gone: there is none to be had."""
    held: list[AbstractContextManager[None]] = []

    def take(stage: Stage) -> None:
        held.append(stage.postgres.exhausted())
        held[0].__enter__()

    _unavailable(trial, take, lambda _: held[0].__exit__(None, None, None) and None)
    if not trial.ledger.statuses()[503]:
        trial.problem("nobody noticed that there was no connection")


def refused(trial: Trial) -> None:
    _unavailable(trial, lambda stage: stage.database("refuse"), lambda stage: stage.database("pass"))


def swallowed(trial: Trial) -> None:
    """The server, or the network, accepts everything and answers nothing, for longer than we wait for an answer."""

    def swallow(stage: Stage) -> None:
        stage.database("swallow")
        time.sleep(_SILENCE_SECONDS + 3)

    # There are more writers than threads: a request waits for a thread that waits, and then for a connection itself.
    most = _SILENCE_SECONDS + 2 * _ANSWER_SECONDS
    _unavailable(trial, swallow, lambda stage: stage.database("pass"), most=most)


def delayed(trial: Trial) -> None:
    """Every piece takes 50 ms each way: slow, and nothing else."""
    trial.watch()
    with trial.load():
        trial.stage.database("delay", seconds=0.05)
        time.sleep(trial.size.outage)
        trial.stage.database("pass")
        trial.over()


def forgotten(trial: Trial) -> None:
    """Statements reach the server, and the connection is cut instead of the answer: was it written or not?"""

    def forget(stage: Stage) -> None:
        for _ in range(5 * trial.size.rounds):
            stage.database("forget")
            time.sleep(0.1)
            stage.database("pass")
            time.sleep(0.2)

    _unavailable(trial, forget)


FAULTS = (
    Fault("database restarted", "PostgreSQL restarts in immediate mode", restarted),
    Fault("backends terminated", "every backend is terminated, three times", terminated),
    Fault("connections exhausted", "no connection is to be had, kept ones are gone", exhausted),
    Fault("database refused", "PostgreSQL refuses connections", refused),
    Fault("database swallowed", "PostgreSQL accepts and never answers", swallowed),
    Fault("database delayed", "PostgreSQL is 50 ms away, each way", delayed),
    Fault("answers forgotten", "connections are cut when PostgreSQL answers", forgotten),
)
