"""`flowplatform flows` and `runs`."""

from itertools import islice

import click

from flowplatform_client.cli.connection import connected
from flowplatform_client.cli.naming import complete_flow, flow_id_of
from flowplatform_client.cli.output import as_json, local, print_json, print_table

MOST = 1000

limit = click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, metavar="N", help="At most so many."
)


@click.command()
@limit
@as_json
def flows(limit: int, as_json: bool) -> None:
    """List the flows, newest first."""
    with connected() as platform:
        found = islice(platform.flows.list(page_size=min(limit, 20)), limit)
        if as_json:
            for flow in found:
                print_json(flow)
            return
        rows = (
            [
                flow.display_name,
                str(flow.version),
                str(len(flow.definition.get("tasks", ()))),
                local(flow.updated_at),
                flow.id,
            ]
            for flow in found
        )
        print_table(["name", "version", "tasks", "changed", "id"], rows, "There are no flows.")


@click.command()
@click.argument("flow", shell_complete=complete_flow)
@click.option("--status", multiple=True, metavar="STATUS", help="Only these; may be given several times.")
@click.option(
    "--tag", multiple=True, metavar="TYPE:TAG", help="Only with this tag on a task; several: with all of them."
)
@limit
@as_json
def runs(flow: str, status: tuple[str, ...], tag: tuple[str, ...], limit: int, as_json: bool) -> None:
    """List the executions of FLOW, an id or a name, newest first."""
    with connected() as platform:
        listed = platform.executions.list(
            flow_id_of(platform, flow),
            status=status,
            tags=tag,
            include_run_number=True,
            page_size=min(limit, MOST),
        )
        found = islice(listed, limit)
        if as_json:
            for run in found:
                print_json(run)
            return
        rows = (
            [f"#{run.run_number}", run.status, local(run.created_at), local(run.updated_at), run.id] for run in found
        )
        print_table(["run", "status", "created", "changed", "id"], rows, "There are no such executions.")
