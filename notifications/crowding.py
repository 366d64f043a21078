"""How many sockets a live process has at once, of whom and from where; one too many is closed with 4429.

A socket counts by its address from its first moment, and among those that wait until it is known whose it is: whoever
opens many and says nothing, or says it with a wrong credential, cannot take the places of others.
"""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from django.conf import settings


class TooManySockets(Exception):  # noqa: N818  (not an error: a reason to close)
    """There is no place for another one."""


class Crowd:
    """The sockets of one process. Belongs to one event loop."""

    def __init__(self) -> None:
        self._addresses: Counter[Hashable] = Counter()
        self._actors: Counter[Hashable] = Counter()
        self._waiting: Counter[Hashable] = Counter()  # by address

    @contextmanager
    def from_address(self, address: str) -> Iterator[None]:
        """Have a socket of an address, for the duration of a with statement."""
        if self._addresses.total() >= settings.SOCKETS_PER_PROCESS:
            raise TooManySockets
        with _place(self._addresses, address, settings.SOCKETS_PER_ADDRESS):
            yield

    @contextmanager
    def waiting(self, address: str) -> Iterator[None]:
        """Have it wait for the answer to whose it is; no address has more than half of these places."""
        if self._waiting.total() >= settings.SOCKETS_WAITING:
            raise TooManySockets
        with _place(self._waiting, address, max(1, settings.SOCKETS_WAITING // 2)):
            yield

    @contextmanager
    def of_actor(self, actor_id: Hashable) -> Iterator[None]:
        """Have it be somebody's."""
        with _place(self._actors, actor_id, settings.SOCKETS_PER_ACTOR):
            yield


@contextmanager
def _place(places: Counter[Hashable], key: Hashable, most: int) -> Iterator[None]:
    if places[key] >= most:
        raise TooManySockets
    places[key] += 1
    try:
        yield
    finally:
        places[key] -= 1
        if not places[key]:
            del places[key]
