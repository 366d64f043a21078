"""File locks that the kernel drops with their holder."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flowplatform.embedded.locations import EmbeddedError


@contextmanager
def open_lock(path: Path) -> Iterator[int]:
    """Open a lock file. Children do not inherit the descriptor, so one that lives on holds no lock of ours."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise EmbeddedError(f"The data directory {path.parent} cannot be written: {error.strerror}.") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def held(lock: int, *, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock exclusively, after waiting for it as long as it takes; `waiting` is called if that is not at once."""
    if not try_lock(lock):
        waiting()
        take(lock)
    try:
        yield
    finally:
        unlock(lock)


def take(lock: int) -> None:
    """Lock exclusively, after waiting for it."""
    fcntl.flock(lock, fcntl.LOCK_EX)


def try_lock(lock: int) -> bool:
    """Lock exclusively if nobody else holds the lock in any way; a shared hold of our own is given up either way."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def share(lock: int) -> None:
    """Hold a lock together with others who share it."""
    fcntl.flock(lock, fcntl.LOCK_SH)


def unlock(lock: int) -> None:
    """Give a lock up."""
    fcntl.flock(lock, fcntl.LOCK_UN)


def is_held(lock: int) -> bool:
    """Tell whether anybody but us holds the lock."""
    free = try_lock(lock)
    if free:
        unlock(lock)
    return not free
