"""Where a replay goes: the server that was named, the one that runs, or one started for as long as it lasts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from flowplatform.demo.credentials import ensure_demo
from flowplatform.supervisor import running_platform, running_url

TOKEN_VARIABLE = "FLOWPLATFORM_TOKEN"  # noqa: S105 (the name of a variable, not a token)


class TargetError(Exception):
    """There is no server to play to. The text is one sentence."""


class Target(NamedTuple):
    """A server and a service token for it."""

    url: str
    token: str


@contextmanager
def target(url: str | None, token: str | None, *, data_dir: Path) -> Iterator[Target]:
    """Have a server for the duration of a with statement.

    Without an address: the running `manage.py up` of the data directory, else a platform of our own on a free port.
    Raises `TargetError` for an address without a token, `PlatformError` if ours does not start.
    """
    token = token or os.environ.get(TOKEN_VARIABLE, "").strip() or None
    if url:
        if not token:
            raise TargetError(f"--url needs a service token: give --token, or set {TOKEN_VARIABLE}.")
        yield Target(url, token)
    elif running := running_url(data_dir):
        yield Target(running, token or ensure_demo(data_dir).token)
    else:
        with running_platform(data_dir=data_dir, port=0, demo=False) as platform:
            yield Target(platform.url, token or platform.credentials.token)
