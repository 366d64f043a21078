"""Which processes belong to a data directory, whoever started them."""

from pathlib import Path

from flowplatform.embedded.locations import sockets_dir


def processes_of(data_dir: Path) -> list[str]:
    """Return `pid command` of every living process that has the data directory in its command or its environment."""
    marks = [str(data_dir).encode(), str(sockets_dir(data_dir)).encode()]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((process / name).read_bytes() for name in ("cmdline", "environ"))
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
        if any(mark in command or mark in environment for mark in marks):
            found.append(f"{process.name} {command.replace(bytes(1), b' ').decode()}")
    return found
