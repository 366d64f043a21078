"""What ended processes have left unsent: who takes it over, and in which order it is sent."""

import contextlib
import logging
import math
import time
from collections import defaultdict
from collections.abc import Iterable

from flowplatform_client.reporter.folder import SpoolFolder
from flowplatform_client.reporter.lane import Lane
from flowplatform_client.reporter.spool import Spool, execution_of, is_ended
from flowplatform_client.reporter.wire import Driver

SEARCH_SECONDS = 15.0
MOST_ADOPTED = 4  # at a time

_log = logging.getLogger("flowplatform_client.reporter")


class _BusyError(Exception):
    """An older spool is being sent by another reporter."""


class Leftovers:
    """Adopts the spools of ended processes and sends them beside one's own.

    Of one execution the oldest is sent first, by whichever process, and the younger ones wait for it: so the order of a
    task's statuses outlives any number of restarts. Processes that live side by side do not wait for each other.
    """

    def __init__(self, folder: SpoolFolder, own: Spool, driver: Driver) -> None:
        self._folder = folder
        self._own = own
        self._driver = driver
        self._lanes: dict[Spool, Lane] = {}
        self._not_ours: set[str] = set()
        self._searched_at = -math.inf

    def go_first(self) -> bool:
        """Say whether older spools of our own execution have to be sent before ours; take one over if nobody has it."""
        if any(spool.execution_id == self._own.execution_id for spool in self._lanes):
            return True
        try:
            return self._adopt(self._folder.names_before(self._own))
        except _BusyError:
            return True

    def search(self) -> None:
        """Look for spools of ended processes, of any execution, from time to time."""
        if time.monotonic() < self._searched_at + SEARCH_SECONDS:
            return
        self._searched_at = time.monotonic()
        self._folder.clear()
        waiting: dict[str, list[str]] = defaultdict(list)
        for name in self._folder.names():
            waiting[execution_of(name)].append(name)
        for spool in self._lanes:
            waiting.pop(spool.execution_id, None)
        for names in waiting.values():
            if len(self._lanes) < MOST_ADOPTED:
                with contextlib.suppress(_BusyError):
                    self._adopt(names)

    def step(self) -> bool:
        """Send a request of each that is due; say whether there was any."""
        due = [(spool, lane) for spool, lane in self._lanes.items() if lane.is_due]
        for spool, lane in due:
            self._step(spool, lane)
        return bool(due)

    @property
    def is_stuck(self) -> bool:
        """Whether the server does not take what goes before ours."""
        own = self._own.execution_id
        return any(lane.failures for spool, lane in self._lanes.items() if spool.execution_id == own)

    def due_in(self) -> float:
        """Return in how many seconds there is something to do."""
        return min((lane.due_at - time.monotonic() for lane in self._lanes.values()), default=math.inf)

    def hurry(self) -> None:
        """Try again at once."""
        for lane in self._lanes.values():
            lane.hurry()

    def close(self) -> None:
        """Leave what is not sent to the next one."""
        for spool in self._lanes:
            spool.close()
        self._lanes.clear()

    def _adopt(self, names: Iterable[str]) -> bool:
        """Take over the oldest of an execution's spools whose process has ended; say whether there is one.

        Raises `_BusyError` if somebody else is sending an older one.
        """
        for name in names:
            path = self._folder.path / name
            if name in self._not_ours:
                continue
            if spool := Spool.adopt(path):
                ours = spool.token_mark == self._folder.token_mark
                self._lanes[spool] = Lane(
                    spool, spool.execution_id, self._driver, is_leftover=True, is_of_our_token=ours
                )
                return True
            if is_ended(path):
                raise _BusyError
        return False

    def _step(self, spool: Spool, lane: Lane) -> None:
        try:
            if not lane.step():
                spool.remove()
                del self._lanes[spool]
                self._searched_at = -math.inf  # there may be a younger one
            elif lane.is_given_up:
                self._leave(spool, "it was written with another token, and ours may not send it")
        except Exception as error:  # it is not ours: whatever is wrong with it must not hold ours up
            self._leave(spool, str(error) or type(error).__name__)

    def _leave(self, spool: Spool, why: str) -> None:
        _log.error("what another process left unsent stays in %s: %s", spool.path, why)
        self._not_ours.add(spool.path.name)
        del self._lanes[spool]
        spool.close()
