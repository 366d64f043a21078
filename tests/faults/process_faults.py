"""Faults of our own processes: killed, asked to leave, absent."""

import time
from collections import Counter
from collections.abc import Sequence

from tests.faults.stage import LIVE, WEB, WORKERS
from tests.faults.trial import Fault, Trial


def _killed(trial: Trial, names: Sequence[str]) -> None:
    """Kill one of the processes after the other under load; what supervises them starts each again."""
    trial.watch()
    with trial.load():
        deadline = time.monotonic() + trial.size.seconds
        number = 0
        while time.monotonic() < deadline:
            name = names[number % len(names)]
            trial.stage.processes.wait_for(name)  # it may still be starting from the last time
            trial.stage.processes.kill(name)
            trial.stage.processes.start(name, wait=False)
            number += 1
            time.sleep(trial.size.pause)
        trial.over()
    trial.note(f"{number} kills")


def web_killed(trial: Trial) -> None:
    """What a killed web process was answering is lost on the way: done or not, as a client finds out by its key."""
    trial.may_answer(0, 409, 502, 503)
    _killed(trial, WEB)


def live_killed(trial: Trial) -> None:
    """Sockets come back with `since`; requests are not touched."""
    _killed(trial, LIVE)


def workers_killed(trial: Trial) -> None:
    """Whatever a relay was doing, another one or the sweep does."""
    _killed(trial, WORKERS)


def rolling(trial: Trial) -> None:
    """Replace every process in turn, each asked by SIGTERM: not one request may be lost or refused."""
    trial.watch()
    with trial.load():
        for name in trial.size.rolling:
            begun = time.monotonic()
            trial.stage.processes.terminate(name)
            trial.note(f"{name} ended within {time.monotonic() - begun:.1f} s")
            trial.stage.processes.start(name)
            time.sleep(0.2)
        trial.over()
    codes: Counter[int] = sum((watcher.closes for watcher in trial.audience.watchers), Counter())
    trial.note(f"sockets closed with {dict(codes)}")


FAULTS = (
    Fault("web killed", "`kill -9` of a web process every 2 s", web_killed),
    Fault("live killed", "`kill -9` of a live process every 2 s", live_killed),
    Fault("workers killed", "`kill -9` of a worker every 2 s", workers_killed),
    Fault("rolling SIGTERM", "SIGTERM to every process in turn", rolling, needs_nginx=True),
)
