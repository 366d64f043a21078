"""The thread behind a reporter: gathers what was told, sends it, and looks after what ended processes have left."""

import logging
import math
import threading
import time

from flowplatform_client.address import Address
from flowplatform_client.reporter.folder import SpoolFolder
from flowplatform_client.reporter.lane import Lane
from flowplatform_client.reporter.leftovers import Leftovers
from flowplatform_client.reporter.outbox import Outbox
from flowplatform_client.reporter.records import BATCH_SIZE
from flowplatform_client.reporter.spool import Spool, log_troubles
from flowplatform_client.reporter.wire import driver_to

GATHERING_SECONDS = 0.05
TIDYING_SECONDS = 1.0
TIDYING_SECONDS_WHEN_FULL = 0.1
WAITING_SECONDS = 0.2  # between two looks whether an older spool is sent
AFTER_A_BUG_SECONDS = 5.0

_log = logging.getLogger("flowplatform_client.reporter")


def deliveries() -> "list[Delivery]":
    """Return those that work in this process."""
    return [thread for thread in threading.enumerate() if isinstance(thread, Delivery)]


class Delivery(threading.Thread):
    """Sends what is in an outbox, after what ended processes have left of the same execution.

    It is a daemon: no process waits for it to end. What it has not sent by then is in the spool.
    """

    def __init__(
        self, outbox: Outbox, folder: SpoolFolder | None, execution_id: str, address: Address, *, timeout: float
    ) -> None:
        super().__init__(name="flowplatform-reporter", daemon=True)
        self.outbox = outbox
        self._folder = folder
        self._driver = driver_to(address, timeout=timeout)
        self._lane = Lane(outbox.queue, execution_id, self._driver, settle=outbox.settle)
        self._leftovers: Leftovers | None = None
        if folder is not None and isinstance(outbox.queue, Spool):
            self._leftovers = Leftovers(folder, outbox.queue, self._driver)
        self._has_begun = False  # before that, what is older of our execution goes first
        self._is_behind = False
        self._hurries = 0
        self._tidied_at = -math.inf
        self._gathering_since: float | None = None

    def run(self) -> None:
        """Work until the reporter is retired and everything is sent, or only another token can send it."""
        while True:
            try:
                if self._is_over():
                    break
                self._round()
            except Exception:  # a disk that fails, or a bug: the next round may fare better, and no work is broken
                _log.exception("reporting was interrupted and goes on in %g s", AFTER_A_BUG_SECONDS)
                time.sleep(AFTER_A_BUG_SECONDS)
        self._end()

    def flush(self, timeout: float) -> bool:
        """Wait until everything that was told by now is settled; say whether it is."""
        if not self.is_alive():
            return self.outbox.unsent == 0
        return self.outbox.wait(timeout, also_while_away=True)

    def close(self, timeout: float) -> bool:
        """Retire, and wait until everything is settled, but not for a server that is away; say whether it is."""
        deadline = time.monotonic() + timeout
        self.outbox.retire()
        if not self.is_alive():
            return self.outbox.unsent == 0
        is_settled = self.outbox.wait(timeout, also_while_away=not self.outbox.queue.is_durable)
        if is_settled:
            self.join(max(0.0, deadline - time.monotonic()))  # until the empty spool is removed
        return is_settled

    def _round(self) -> None:
        """Send one request of every queue that has something to send, or sleep until one has."""
        self._tidy()
        self._note_hurry()
        was_sent = self._leftovers is not None and self._leftovers.step()
        if self._leftovers is not None and not self._has_begun and self._leftovers.is_stuck:
            self.outbox.failed()  # who waits for ours waits for those before it
        if not (self._step() or was_sent):
            self._sleep()

    def _step(self) -> bool:
        """Send a request of our own queue, if it is our turn and there is a batch."""
        if not self._lane.is_due:
            return False
        self._is_behind = self._leftovers is not None and not self._has_begun and self._leftovers.go_first()
        if self._is_behind or not self._send_gathered():
            return False
        self._has_begun = True
        self._gathering_since = None
        if self._lane.failures:
            self.outbox.failed()
        return True

    def _send_gathered(self) -> bool:
        """Send a request if a batch is closed, or an open one has waited for long enough; say whether it was sent."""
        if self._lane.step():
            return True
        if self._gathering_left() > 0:
            return False
        self.outbox.queue.seal()
        return self._lane.step()

    def _gathering_left(self) -> float:
        """Return for how many seconds more statuses are awaited: for ever as long as there is none."""
        if not self.outbox.unsent and not self.outbox.queue.has_more():
            self._gathering_since = None
            return math.inf
        if self._gathering_since is None:
            self._gathering_since = time.monotonic()
        if self.outbox.is_urgent:
            return 0.0
        return self._gathering_since + GATHERING_SECONDS - time.monotonic()

    def _note_hurry(self) -> None:
        """Forget the pauses once for everybody who is in a hurry."""
        if self._hurries != self.outbox.hurries:
            self._hurries = self.outbox.hurries
            self._lane.hurry()
            if self._leftovers is not None:
                self._leftovers.hurry()

    def _sleep(self) -> None:
        """Sleep until something is due, or the bell rings."""
        due, ring_at = [self._tidying_seconds], math.inf
        if self._leftovers is not None:
            due.append(self._leftovers.due_in())
        if self._is_behind or self.outbox.is_overfull:
            due.append(WAITING_SECONDS)
        elif self._lane.is_due:
            left = self._gathering_left()
            due.append(left if left > 0 else WAITING_SECONDS)
            ring_at = 1 if left == math.inf else BATCH_SIZE
        else:
            due.append(self._lane.due_at - time.monotonic())
        self.outbox.sleep(min(due), ring_at)

    @property
    def _tidying_seconds(self) -> float:
        return TIDYING_SECONDS_WHEN_FULL if self.outbox.is_overfull else TIDYING_SECONDS

    def _tidy(self) -> None:
        """See to room on the disk, to what found no room, and to what others have left."""
        if time.monotonic() < self._tidied_at + self._tidying_seconds:
            return
        self._tidied_at = time.monotonic()
        if self._folder is not None and isinstance(self.outbox.queue, Spool):
            self._folder.measure(self.outbox.queue)
        self.outbox.tidy()
        log_troubles()
        if self._leftovers is not None and not self.outbox.is_retired:
            self._leftovers.search()

    def _is_over(self) -> bool:
        if self._lane.has_wrong_token:
            return self.outbox.ends(with_what_is_left=True)
        return not self._lane.is_busy and self.outbox.ends(with_what_is_left=False)

    def _end(self) -> None:
        self._driver.close()
        if self._leftovers is not None:
            self._leftovers.close()
        try:
            if self._lane.has_wrong_token:
                self.outbox.queue.close()
                self.outbox.failed()  # whoever waits would wait in vain
            else:
                self.outbox.queue.remove()
        except OSError as error:
            _log.warning("a spool of which everything is sent could not be removed: %s", error)
