"""The folder of spools: where it is, who left something there, and how much room is left."""

import contextlib
import hashlib
import math
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from flowplatform_client.address import Address
from flowplatform_client.reporter.spool import Spool, execution_of

SPOOL_VARIABLE = "FLOWPLATFORM_SPOOL"
SEGMENT_BYTES = 1024 * 1024

_UNBORN_SECONDS = 3600.0  # what was not finished by then never will be
_MEASURING_PAUSE = 20  # times as long as measuring takes: an outage may leave thousands of spools


def default_folder(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder of FLOWPLATFORM_SPOOL, or the one that belongs to this user."""
    if named := environment.get(SPOOL_VARIABLE):
        return Path(named)
    try:
        state = Path(environment.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser())
    except RuntimeError:  # a user without a home
        state = Path(os.devnull)  # where no folder can be made, as whoever tries will say
    return state / "flowplatform" / "spool"


class SpoolFolder:
    """The spools of one server. Several processes may share it; `most_bytes` is for all of them together."""

    def __init__(self, root: Path, address: Address, most_bytes: int) -> None:
        server = re.sub(r"[^A-Za-z0-9.-]+", "-", address.url.partition("://")[2])
        self.path = root.absolute() / f"{server[:80]}-{_mark(address.url)}"
        self.token_mark = _mark(address.token)
        self._most_bytes = most_bytes
        self._measure_at = -math.inf  # on the monotonic clock

    def create(self, execution_id: str) -> Spool:
        """Make a spool. Raises `OSError`."""
        segment_bytes = min(SEGMENT_BYTES, self._most_bytes // 8)  # what is settled goes by whole segments
        spool = Spool.create(self.path, execution_id, token_mark=self.token_mark, segment_bytes=segment_bytes)
        self._measure_at = -math.inf
        self.measure(spool)
        return spool

    def names(self) -> list[str]:
        """Return the names of all spools, those of an execution in the order in which they were made."""
        try:
            return sorted(path.name for path in self.path.iterdir() if not path.name.startswith("."))
        except OSError:
            return []

    def names_before(self, spool: Spool) -> list[str]:
        """Return the names of the older spools of the same execution."""
        return [name for name in self.names() if execution_of(name) == spool.execution_id and name < spool.path.name]

    def measure(self, spool: Spool) -> None:
        """Tell a spool how much room there is left, for all of them together, unless that was done just now."""
        begin = time.monotonic()
        if begin >= self._measure_at:
            spool.room = max(0, self._most_bytes - sum(self._sizes()))
            now = time.monotonic()
            self._measure_at = now + _MEASURING_PAUSE * (now - begin)

    def clear(self) -> None:
        """Remove what was left of spools whose process ended while it made them."""
        for path in self.path.glob(".*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - _UNBORN_SECONDS:
                    shutil.rmtree(path)

    def _sizes(self) -> Iterator[int]:
        for name in self.names():
            with contextlib.suppress(OSError), os.scandir(self.path / name) as files:
                yield from (file.stat().st_size for file in files)


def _mark(text: str) -> str:
    """Return by what a text is known again. It does not lead back to a token, which cannot be guessed."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
