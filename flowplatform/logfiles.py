"""Log files of the processes that the platform starts: a fresh one for every start, and the line that tells why."""

import re
from pathlib import Path
from typing import BinaryIO

_TAIL = 16 * 1024  # bytes of a log that are read for its last words
_FATAL = re.compile(r"\b(?:FATAL|PANIC|initdb: error): *(.+)")


def start_log(path: Path) -> BinaryIO:
    """Open an empty log for a program about to start; the log of the start before is kept as `NAME.log.1`."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))
    return path.open("wb")


def last_words(path: Path) -> str:
    """Return the line of a log that says why its program ended, without a final full stop."""
    try:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _TAIL))
            text = log.read().decode(errors="replace")
    except OSError as error:
        return f"its log cannot be read ({error.strerror})"
    return telling_line(text)


def telling_line(text: str) -> str:
    """Return what a server said when it gave up, else the last line with any text; without a final full stop."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = [match[1] for line in lines if (match := _FATAL.search(line))]
    return (fatal or lines or ["it said nothing"])[-1].rstrip(".")
