"""Whether a client of Daphne's reads: Twisted says so to whoever it takes for the producer of what it sends."""

import asyncio

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer


@implementer(IPushProducer)
class FlowControl:
    """Told by a transport when its buffer is full and when it is empty again."""

    def __init__(self) -> None:
        self.writable = asyncio.Event()
        self.writable.set()

    def pauseProducing(self) -> None:  # noqa: N802  (Twisted's name)
        """The buffer is full."""
        self.writable.clear()

    def resumeProducing(self) -> None:  # noqa: N802
        """The buffer is empty."""
        self.writable.set()

    def stopProducing(self) -> None:  # noqa: N802
        """The connection is gone: nobody has to wait any more."""
        self.writable.set()
