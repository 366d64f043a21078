"""Database reads of a live process: a few threads, each of which keeps a connection.

What is read here is read for all sockets at once, so it is everybody's. Who may watch what is asked as the one who asks
(`consumers.py`).
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import close_old_connections

from flowplatform import tenancy

P = ParamSpec("P")
R = TypeVar("R")


class DatabaseThreads:
    """Runs what waits for the database beside the event loop."""

    def __init__(self, count: int) -> None:
        self._executor = ThreadPoolExecutor(count, "sockets")

    async def run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run a function in one of the threads and return what it returns."""
        call = partial(_with_connection, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call)


def _with_connection(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    close_old_connections()  # and the next use looks at the one that is kept, as at the beginning of a request
    try:
        with tenancy.showing(tenancy.EVERYBODY):
            return function(*args, **kwargs)
    finally:
        close_old_connections()
