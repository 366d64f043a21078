"""Using the embedded servers: whoever comes first starts them, whoever leaves last stops them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from flowplatform.embedded import locks
from flowplatform.embedded.locations import EmbeddedError, make_data_dir
from flowplatform.embedded.place import Place, Report
from flowplatform.embedded.server import Postgres, Server, Valkey
from flowplatform.logfiles import last_words


def to_stderr(message: str) -> None:
    """Report progress on stderr: the stdout of a command belongs to its result."""
    print(message, file=sys.stderr, flush=True)


class Servers:
    """The embedded servers that the user of `servers()` asked for."""

    def __init__(self, running: Sequence[Server]) -> None:
        self._running = running

    def check(self) -> None:
        """Raise EmbeddedError if one of the servers has died."""
        for server in self._running:
            if not server.alive():
                raise EmbeddedError(f"{server.name} stopped unexpectedly: {last_words(server.log)} ({server.log}).")


@contextmanager
def servers(
    data_dir: Path, *, postgres: bool = True, valkey: bool = True, report: Report = to_stderr
) -> Iterator[Servers]:
    """Have the servers of a data directory run for the duration of a with statement.

    Servers that already run are shared; the last of all users stops them. `report` hears of what takes long.
    Raises EmbeddedError when the data directory cannot be used or a server does not start.
    """
    if not (postgres or valkey):
        yield Servers([])
        return
    home = make_data_dir(data_dir)
    with ExitStack() as opened:
        changing = opened.enter_context(locks.open_lock(home / "start.lock"))
        usage = opened.enter_context(locks.open_lock(home / "servers.lock"))
        place = Place.of(home)
        every = [kind(place, opened.enter_context(kind.open_alive(place))) for kind in (Postgres, Valkey)]
        wanted = [server for server, is_wanted in zip(every, (postgres, valkey), strict=True) if is_wanted]
        try:
            with _changing(changing, report):
                # Before anything starts: from here on nobody else may take himself for the last user.
                locks.share(usage)
                _start(place, wanted, report)
            yield Servers(wanted)
        finally:
            with _changing(changing, report):
                if locks.try_lock(usage):
                    # Every one, not only the wanted: a user of both may have been killed and have left one to us.
                    for server in every:
                        server.stop()
                    place.clear()


@contextmanager
def _changing(lock: int, report: Report) -> Iterator[None]:
    with locks.held(lock, waiting=lambda: report("Waiting for another command that starts or stops the servers…")):
        yield


def _start(place: Place, wanted: Sequence[Server], report: Report) -> None:
    try:
        place.prepare(report)
        for server in wanted:
            server.ensure_running(report)
    except OSError as error:
        raise EmbeddedError(f"The servers of {place.home} cannot be started: {error}.") from error
