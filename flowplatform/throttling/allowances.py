"""Allowances: so many requests in a window of time for each key, over all processes, and few questions to the store.

Asking the store for every request would cost a round trip for each of its keys. So a process takes a share of a key's
allowance at once and spends it by itself. The store counts what is taken, so all processes together never spend more
than the allowance; what a process has taken and does not need is lost until the window ends, which is why shares are
small at first, grow with what a process really spends, and become small again when little is left.

Windows are fixed and begin at multiples of their length: as in every fixed window, twice the amount can pass around a
boundary. While the store is away each process allows the whole amount by itself.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from django.conf import settings
from limits import RateLimitItem, parse

from flowplatform.throttling.store import SharedStore

MOST_KEYS = 10_000  # remembered of one allowance by a process; the store knows the others
_FIRST_SHARE = 100  # the first share is this part of the amount
_LAST_SHARES = 8  # no share is more than this part of what is left


class Spent(NamedTuple):
    """What became of a request for one unit."""

    allowed: bool
    amount: int  # of a whole window
    remaining: int  # as far as this process knows
    reset: int  # seconds until the window ends, rounded up
    seconds: int  # the length of the window


@dataclass(slots=True)
class _Purse:
    """What this process knows of one key in one window."""

    window: int
    left: int  # in the store, when it was asked last
    held: int = 0  # taken and not spent
    spent: int = 0


class Allowance:
    """One rate, for any number of keys. Safe to share between threads."""

    def __init__(
        self, name: str, rate: RateLimitItem, store: SharedStore, clock: Callable[[], float] = time.time
    ) -> None:
        self.name, self.amount, self.seconds = name, rate.amount, rate.get_expiry()
        self._rate, self._store, self._clock = rate, store, clock
        self._lock = threading.Lock()
        self._purses: dict[str, _Purse] = {}

    def spend(self, key: str) -> Spent:
        """Spend one unit of the key's allowance, or find out that there is none."""
        now = self._clock()
        with self._lock:
            purse = self._purse(key, int(now // self.seconds))
            if purse.held or purse.left <= 0:
                return self._spent(purse, now)
            share = self._share(purse)
        count = self._store.add(self._rate.key_for(self.name, key, purse.window), share, 2 * self.seconds)
        with self._lock:
            if count is None:  # the store is away: what this process has spent is all that counts
                taken, purse.left = share, self.amount - purse.spent - purse.held - share
            else:
                taken, purse.left = min(share, self.amount - count + share), self.amount - count
            purse.held += max(taken, 0)
            return self._spent(purse, now)

    def is_spent(self, key: str) -> bool:
        """Say whether nothing is left, as far as this process knows; spends nothing and asks nobody."""
        purse = self._purses.get(key)
        if purse is None or purse.held or purse.left > 0:
            return False
        return purse.window == int(self._clock() // self.seconds)

    def nothing_left(self) -> Spent:
        """Return what is said to whom `is_spent` is true of."""
        return Spent(False, self.amount, 0, self._reset(self._clock()), self.seconds)

    def _purse(self, key: str, window: int) -> _Purse:
        purse = self._purses.get(key)
        if purse is None or purse.window != window:
            if len(self._purses) >= MOST_KEYS:
                self._make_room(window)
            purse = self._purses[key] = _Purse(window, self.amount)
        return purse

    def _make_room(self, window: int) -> None:
        """Forget what is over, and the older half if that is not enough."""
        current = {key: purse for key, purse in self._purses.items() if purse.window == window}
        if len(current) > MOST_KEYS // 2:
            current = dict(list(current.items())[-MOST_KEYS // 2 :])
        self._purses = current

    def _share(self, purse: _Purse) -> int:
        wanted = max(self.amount // _FIRST_SHARE, purse.spent)
        return max(1, min(wanted, purse.left // _LAST_SHARES))

    def _spent(self, purse: _Purse, now: float) -> Spent:
        allowed = purse.held > 0
        if allowed:
            purse.held -= 1
            purse.spent += 1
        remaining = purse.held + max(purse.left, 0)
        return Spent(allowed, self.amount, remaining, self._reset(now), self.seconds)

    def _reset(self, now: float) -> int:
        return self.seconds - int(now % self.seconds)


def spend(name: str, key: str) -> Spent | None:
    """Spend one unit of the allowance that the settings call `name`; `None` if it is off."""
    allowance = named(name)
    return allowance.spend(key) if allowance else None


def named(name: str) -> Allowance | None:
    """Return the allowance that the settings call `name`; `None` if it is off."""
    return _allowance(name, settings.RATE_LIMITS[name])


@lru_cache
def _allowance(name: str, rate: str) -> Allowance | None:
    return Allowance(name, parse(rate), _store(settings.LIMITS_URL)) if rate != settings.NO_LIMIT else None


@lru_cache
def _store(url: str) -> SharedStore:
    return SharedStore(url)
