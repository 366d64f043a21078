"""Naming flows and executions on the command line, and completing the names in a shell."""

from uuid import UUID

import click
from click.shell_completion import CompletionItem

from flowplatform_client import Flow, FlowPlatform, RetryPolicy
from flowplatform_client.cli.exits import USAGE, CommandError

COMPLETION_SECONDS = 1.5
SHOWN = 3


def is_id(text: str) -> bool:
    """Say whether a text is the id of something."""
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def flow_id_of(platform: FlowPlatform, named: str) -> str:
    """Return the id of a flow that is named by its id or its display name; raise `CommandError` if that is not one."""
    if is_id(named):
        return named
    found = [flow for flow in platform.flows.list() if flow.display_name == named]
    if not found:
        raise CommandError(f"there is no flow {named!r}: flowplatform flows lists them")
    if len(found) > 1:
        ids = ", ".join(flow.id for flow in found[:SHOWN])
        raise CommandError(f"{len(found)} flows are called {named!r}: name one by its id ({ids})")
    return found[0].id


def checked_id(ctx: click.Context, parameter: click.Parameter, value: str) -> str:
    """Refuse an execution that is named by anything but its id."""
    if not is_id(value):
        raise CommandError(f"{value!r} is not the id of an execution: flowplatform runs FLOW lists them", USAGE)
    return value


def complete_flow(ctx: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return flows whose name or id begins like this. A shell waits for it, so nothing is tried twice or told."""
    return [
        CompletionItem(flow.id if is_from_id else flow.display_name, help=flow.display_name if is_from_id else flow.id)
        for flow in _first_flows()
        for is_from_id in (False, True)
        if (flow.id if is_from_id else flow.display_name).startswith(incomplete) and (incomplete or not is_from_id)
    ]


def _first_flows() -> list[Flow]:
    from flowplatform_client.cli.credentials import current

    try:
        where = current()
        with FlowPlatform(
            where.url,
            where.token,
            timeout=COMPLETION_SECONDS,
            retries=RetryPolicy(attempts=1, total_seconds=COMPLETION_SECONDS),
            organization=where.organization,
            allow_plain_http=where.allow_plain_http,
        ) as platform:
            return [*next(platform.flows.list(page_size=50).pages())]
    except Exception:  # a shell has no place for errors
        return []
