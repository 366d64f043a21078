"""The note of which execution is in work, so that a worker that was killed continues it when it starts again."""

import fcntl
from pathlib import Path
from uuid import UUID


class AlreadyWorkingError(Exception):
    """Another worker uses the same folder. The text is one sentence."""


class WorkMarker:
    """A small file in the reports folder, locked as long as this process lives.

    Raises `AlreadyWorkingError` if another process holds it, `OSError` if the folder cannot be written.
    """

    def __init__(self, reports: Path) -> None:
        reports.mkdir(parents=True, exist_ok=True)
        self._file = (reports / ".in-progress").open("a+", encoding="ascii", errors="replace")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyWorkingError(f"another demo worker already writes its reports to {reports}") from None

    def read(self) -> UUID | None:
        """Return the execution that was in work when the last worker ended, if there was one."""
        self._file.seek(0)
        try:
            return UUID(self._file.read())
        except ValueError:
            return None

    def write(self, execution_id: UUID) -> None:
        """Note that this execution is in work from now on."""
        self.clear()
        self._file.write(str(execution_id))
        self._file.flush()

    def clear(self) -> None:
        """Note that nothing is in work."""
        self._file.truncate(0)
