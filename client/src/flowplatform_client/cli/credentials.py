"""What `flowplatform login` keeps: one address and one token, in a file that nobody else can read."""

import json
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from flowplatform_client.address import (
    ORGANIZATION_VARIABLE,
    SOCKETS_URL_VARIABLE,
    TOKEN_VARIABLE,
    URL_VARIABLE,
    Address,
    plain_http_is_allowed,
)
from flowplatform_client.cli.exits import NOT_SIGNED_IN, CommandError


def credentials_file() -> Path:
    """Return where they are kept."""
    return Path(click.get_app_dir("flowplatform")) / "credentials.json"


def save(address: Address) -> Path:
    """Keep them instead of those from before; return where."""
    path = credentials_file()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Written beside it, readable by us alone from its first byte, and then put in its place at once.
    descriptor, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump({key: value for key, value in vars(address).items() if value is not None}, file)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise
    return path


def forget() -> bool:
    """Remove them; say whether there were any."""
    try:
        credentials_file().unlink()
    except FileNotFoundError:
        return False
    return True


def current(environment: Mapping[str, str] = os.environ) -> Address:
    """Return the address and token to use: those of the environment, else those that were kept.

    Raises `CommandError` if there are none or others can read them, `ConfigurationError` if they cannot be used.
    """
    if environment.get(URL_VARIABLE, "").strip():
        return Address.from_environment(environment)
    kept = _kept()
    return Address(
        kept["url"],
        environment.get(TOKEN_VARIABLE, "").strip() or kept["token"],
        organization=environment.get(ORGANIZATION_VARIABLE, "").strip() or kept.get("organization"),
        sockets_url=environment.get(SOCKETS_URL_VARIABLE, "").strip() or kept.get("sockets_url"),
        allow_plain_http=bool(kept.get("allow_plain_http")) or plain_http_is_allowed(environment),
    )


def _kept() -> dict[str, Any]:
    path = credentials_file()
    try:
        with path.open(encoding="utf-8") as file:
            if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
                raise CommandError(f"others can read the token in {path}: chmod 600 it, or log in again", NOT_SIGNED_IN)
            kept = json.load(file)
    except FileNotFoundError:
        raise CommandError(
            f"no server is known: flowplatform login, or set {URL_VARIABLE} and {TOKEN_VARIABLE}", NOT_SIGNED_IN
        ) from None
    except ValueError:
        kept = None
    if not (isinstance(kept, dict) and isinstance(kept.get("url"), str) and isinstance(kept.get("token"), str)):
        raise CommandError(f"{path} is damaged: log in again", NOT_SIGNED_IN)
    return kept
