"""What frames of a flow's socket mean to somebody who must miss no event and tell none twice. No IO here."""

import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from flowplatform_client.calls import Answer, refusal
from flowplatform_client.endpoints import event
from flowplatform_client.errors import ApiError, ConnectionFailedError, Refusal, error_of
from flowplatform_client.models import Event, Reset
from flowplatform_client.retries import OnWait

SILENCE_SECONDS = 25.0  # the server says something every 15 s: after a longer silence the connection is dead
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0

# Close codes. After every other one it is worth coming back.
NOT_AUTHENTICATED = 4401
UNKNOWN = 4404
TOO_MANY = 4429

_AGAIN = (408, 425, 429)  # answers to the handshake that may pass, beside those of 500 and more

Item = Event | Reset


class MissedError(Exception):
    """Something is missing before this frame, or it is none: connect again and ask for it."""


class Following:
    """A place in the events of a flow, and how it moves.

    `since` and `epoch` name the last event that is known; without `since` the first item is a `Reset`. After
    `patience_seconds` without a connection that works it gives up. `on_wait` is told why, once for each time the
    connection is lost.
    """

    def __init__(
        self, address: str, since: int | None, epoch: str | None, *, patience_seconds: float, on_wait: OnWait
    ) -> None:
        self._address = address
        self._offset = since
        self._epoch = epoch
        self._patience_seconds = patience_seconds
        self._on_wait = on_wait
        self._failures = 0  # in a row
        self._worked_at = time.monotonic()

    @property
    def address(self) -> str:
        """Where to connect now."""
        if self._offset is None:
            return self._address
        place = {"since": self._offset} if self._epoch is None else {"since": self._offset, "epoch": self._epoch}
        return f"{self._address}?{urlencode(place)}"

    def take(self, text: str | bytes) -> Sequence[Item]:
        """Return what a frame tells that was not told yet; raise `MissedError` if it does not fit on."""
        try:
            frame = json.loads(text)
            match frame["type"]:
                case "hello":
                    return self._greeted(frame)
                case "reset":
                    return self._moved(frame)
                case "events":
                    return self._events(frame["events"])
                case "heartbeat":
                    return self._heartbeat(frame)
        except (ValueError, KeyError, TypeError) as error:
            raise MissedError(f"a frame that cannot be read ({error!r})") from error
        return ()  # a kind of frame that came after this version

    def lost(self, reason: str, *, crowded: bool = False) -> float:
        """Return how many seconds to wait before the next connection, full jitter.

        Raises `ConnectionFailedError` when patience is over. `crowded` means that the server has too many of us.
        """
        away = time.monotonic() - self._worked_at
        if away >= self._patience_seconds:
            raise ConnectionFailedError(f"{self._address} could not be watched for {away:.0f} s: {reason}")
        if self._failures == 0:
            self._on_wait(f"connecting to {self._address} again: {reason}")
        exponent = math.inf if crowded else min(self._failures, 32)
        self._failures += 1
        pause = random.uniform(0, min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2**exponent))
        return min(pause, self._patience_seconds - away)

    def closed(self, code: int | None, reason: str) -> float:
        """Return how long to wait after the server closed, or raise `ApiError` if coming back cannot help."""
        if code == NOT_AUTHENTICATED:
            raise self._refused(401, "unauthenticated", "the token is not valid, or not any more")
        if code == UNKNOWN:
            raise self._refused(404, "not_found", "there is no such flow, or not any more")
        return self.lost(reason, crowded=code == TOO_MANY)

    def refused(self, status: int, headers: Mapping[str, str], body: bytes) -> float:
        """Return how long to wait after the handshake was answered with an error, or raise that error."""
        answer = Answer(status, {name.lower(): text for name, text in headers.items()}, body)
        error = refusal(answer, "GET", self._address)
        if status >= 500 or status in _AGAIN:
            return self.lost(str(error), crowded=status == 429)
        raise error

    def _refused(self, status: int, code: str, message: str) -> ApiError:
        return error_of(Refusal(method="GET", url=self._address, status=status, code=code, message=message))

    def _greeted(self, frame: Mapping[str, Any]) -> Sequence[Item]:
        if self._offset is None:
            return self._moved(frame)
        self._epoch = self._epoch or frame["epoch"]
        return ()

    def _moved(self, frame: Mapping[str, Any]) -> Sequence[Item]:
        self._epoch, self._offset = frame["epoch"], frame["offset"]
        return [Reset(epoch=frame["epoch"], offset=frame["offset"])]

    def _events(self, rows: Sequence[Mapping[str, Any]]) -> Sequence[Item]:
        epoch, offset = self._place()
        events = [event(epoch, row) for row in rows if row["offset"] > offset]
        if [one.offset for one in events] != [*range(offset + 1, offset + 1 + len(events))]:
            raise MissedError(f"events are missing after {offset}")
        self._offset = offset + len(events)
        self._works()
        return events

    def _heartbeat(self, frame: Mapping[str, Any]) -> Sequence[Item]:
        _, offset = self._place()
        if frame["offset"] > offset:
            raise MissedError(f"events are missing after {offset}")
        self._works()
        return ()

    def _place(self) -> tuple[str, int]:
        if self._epoch is None or self._offset is None:
            raise MissedError("a frame came before the greeting")
        return self._epoch, self._offset

    def _works(self) -> None:
        """Note that the connection does what it is for: the next failure is the first one again."""
        self._failures = 0
        self._worked_at = time.monotonic()
