"""Ends open sockets whose credential has ended, or whose person or program no longer belongs to the organization.

A token is revoked and a member removed in another process, perhaps by hand in the database. Nobody has to tell: every
two seconds the accounts are asked about all sockets of this event loop at once. While the database is away nobody is
closed; nothing new can be told then either.
"""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flowplatform.accounts.standing import Access, Ending, ended
from notifications.close_codes import NOT_AUTHENTICATED, UNKNOWN
from notifications.threads import DatabaseThreads

LOOK_SECONDS = 2.0  # five are promised, also on a machine that is busy

_CODES = {Ending.CREDENTIAL: NOT_AUTHENTICATED, Ending.MEMBERSHIP: UNKNOWN}

End = Callable[[int], None]  # closes a socket with a code


class Guard:
    """The sockets of one event loop, by what opened them."""

    def __init__(self) -> None:
        self._threads = DatabaseThreads(1)  # of its own: a thousand sockets that come back must not hold it up
        self._sockets: dict[Access, set[End]] = {}

    @contextmanager
    def guarding(self, access: Access, end: End) -> Iterator[None]:
        """Close a socket by `end` if its access ends meanwhile."""
        alike = self._sockets.setdefault(access, set())
        alike.add(end)
        try:
            yield
        finally:
            alike.discard(end)
            if not alike:
                del self._sockets[access]

    async def look(self) -> None:
        """Wait, ask about all sockets, and close those whose access has ended."""
        await asyncio.sleep(LOOK_SECONDS)
        if not self._sockets:
            return
        for access, ending in await self._threads.run(lambda accesses: list(ended(accesses)), list(self._sockets)):
            for end in list(self._sockets.get(access, ())):
                end(_CODES[ending])
