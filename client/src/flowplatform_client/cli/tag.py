"""`flowplatform tag`."""

import json
from typing import Any

import click

from flowplatform_client.cli.connection import connected
from flowplatform_client.cli.exits import USAGE, CommandError
from flowplatform_client.cli.naming import checked_id
from flowplatform_client.cli.output import as_json, print_json


@click.command()
@click.argument("execution", callback=checked_id)
@click.argument("task")
@click.argument("tag")
@click.option("--type", "tag_type", default="review", show_default=True, metavar="TYPE", help="The type of the tag.")
@click.option("--metadata", metavar="JSON", help="Other metadata makes another tag.")
@click.option("--remove", is_flag=True, help="Remove the tag. Who and when stays on record.")
@as_json
def tag(execution: str, task: str, tag: str, tag_type: str, metadata: str | None, remove: bool, as_json: bool) -> None:
    """Add TAG to TASK of EXECUTION, or remove it. What is so already is no error."""
    with connected() as platform:
        change = platform.tags.remove if remove else platform.tags.add
        outcome = change(execution, task, tag, tag_type, metadata=_parsed(metadata))
    if as_json:
        print_json({"task_name": task, "tag": tag, "tag_type": tag_type, "status": outcome})
    else:
        click.echo(f"{tag_type}:{tag} on {task}: {outcome.replace('_', ' ')}")


def _parsed(metadata: str | None) -> Any:
    try:
        return None if metadata is None else json.loads(metadata)
    except ValueError as error:
        raise CommandError(f"--metadata is not JSON: {error}", USAGE) from None
