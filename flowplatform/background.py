"""An event loop in a thread beside synchronous code, for what has to keep its connections or must not be waited for."""

import asyncio
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


class BackgroundLoop:
    """A loop that starts with its first coroutine and runs until the process ends; usable from any thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._start_afresh()
        os.register_at_fork(after_in_child=self._start_afresh)  # threads do not survive a fork

    def _start_afresh(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Coroutine[Any, Any, R], seconds: float) -> R:
        """Return or raise what the coroutine does; after so many seconds it is cancelled and TimeoutError raised.

        Its end is not waited for then: what it tidies up, it does in the background.
        """
        running = asyncio.run_coroutine_threadsafe(coroutine, self._running())
        try:
            return running.result(seconds)
        except TimeoutError:
            running.cancel()
            raise

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True).start()
            return self._loop
