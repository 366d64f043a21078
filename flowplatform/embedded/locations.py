"""Where the embedded servers of a data directory listen, and its secret key; no server runs for any of this."""

import hashlib
import os
import re
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

OWNER = DATABASE = "flowplatform"  # the role that owns the tables, and migrates them
APPLICATION, APPLICATION_GROUP = "flowplatform_app", "flowplatform_application"  # who works with them, and its rights
SUPERUSER = "postgres"
POSTGRES_SOCKET = ".s.PGSQL.5432"
VALKEY_SOCKET = "valkey.sock"

_SOCKET_PATH_LIMIT = 103  # bytes that a Unix socket's path may have on macOS; Linux allows 107
_PLAIN_PATH = re.compile(r"[\w./+-]+", re.ASCII)  # needs no quoting in a connection string or a server's settings
# Not tempfile.gettempdir(): two terminals with different TMPDIRs must agree on where the sockets are.
_SHORT_PATHS = Path("/tmp")  # noqa: S108  (who owns the directory in there is checked)


class EmbeddedError(Exception):
    """The embedded servers cannot be used; the message is one sentence for the person at the terminal."""


def database_url(data_dir: Path) -> str:
    """Return where the embedded PostgreSQL of this data directory listens; the same for the same directory, always.

    The role in it owns nothing.
    """
    return _database_url(data_dir, APPLICATION)


def owner_database_url(data_dir: Path) -> str:
    """Return the same for the role that owns the tables."""
    return _database_url(data_dir, OWNER)


def _database_url(data_dir: Path, role: str) -> str:
    return f"postgresql://{role}@/{DATABASE}?host={quote(str(sockets_dir(data_dir)))}"


def redis_url(data_dir: Path) -> str:
    """Return where the embedded Valkey of this data directory listens, as `unix://PATH` without a database number."""
    return f"unix://{quote(str(sockets_dir(data_dir) / VALKEY_SOCKET))}"


def secret_key(data_dir: Path) -> str:
    """Return the data directory's own Django secret key, made on first use and readable by its owner only.

    Raises EmbeddedError when it can be neither read nor written.
    """
    path = make_data_dir(data_dir) / "secret_key"
    try:
        if not path.exists():
            _write_once(path, secrets.token_urlsafe(50))
        return path.read_text()
    except OSError as error:
        raise EmbeddedError(f"The secret key {path} cannot be used: {error.strerror}.") from error


def _write_once(path: Path, text: str) -> None:
    """Create a private file with all of its text, unless another process was faster; nobody sees half of it."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f"{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()


def make_data_dir(data_dir: Path) -> Path:
    """Create the data directory if it is missing, for its owner only, and return it without symlinks."""
    home = data_dir.resolve()
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise EmbeddedError(f"The data directory {home} cannot be created: {error.strerror}.") from error
    return home


def sockets_dir(data_dir: Path) -> Path:
    """Return the directory of the sockets: in the data directory unless its path is too long or too unusual."""
    home = data_dir.resolve()
    sockets = home / "sockets"
    longest = len(os.fsencode(sockets / POSTGRES_SOCKET))
    if longest <= _SOCKET_PATH_LIMIT and _PLAIN_PATH.fullmatch(str(sockets)):
        return sockets
    return _SHORT_PATHS / f"flowplatform-{hashlib.sha256(os.fsencode(home)).hexdigest()[:16]}"
