"""The client that commands use: it waits less long than a worker would, and says why it waits."""

import sys

from flowplatform_client import FlowPlatform, RetryPolicy
from flowplatform_client.address import Address
from flowplatform_client.cli.credentials import current

PATIENCE_SECONDS = 10.0


def connected(address: Address | None = None, *, patience_seconds: float = PATIENCE_SECONDS) -> FlowPlatform:
    """Return a client of the server that is known, or of another one."""
    where = address or current()
    return FlowPlatform(
        where.url,
        where.token,
        retries=RetryPolicy(total_seconds=patience_seconds),
        organization=where.organization,
        sockets_url=where.sockets_url,
        allow_plain_http=where.allow_plain_http,
        on_wait=_say,
    )


def _say(reason: str) -> None:
    if sys.stderr.isatty():
        print(f"waiting: {reason}", file=sys.stderr)
