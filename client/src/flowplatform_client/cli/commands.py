"""The commands by name. Each is imported when it is used, so that the others cost it nothing."""

import importlib
from collections.abc import Mapping
from typing import NamedTuple

import click

from flowplatform_client.version import __version__


class Place(NamedTuple):
    """Where a command is, and what the list of commands says of it."""

    module: str
    name: str
    help: str


COMMANDS: Mapping[str, Place] = {
    "login": Place("flowplatform_client.cli.login", "login", "Keep the address of a server and a token for it."),
    "logout": Place("flowplatform_client.cli.login", "logout", "Forget them."),
    "flows": Place("flowplatform_client.cli.lists", "flows", "List the flows."),
    "runs": Place("flowplatform_client.cli.lists", "runs", "List the executions of a flow."),
    "watch": Place("flowplatform_client.cli.watch", "watch", "Watch the tasks of an execution."),
    "run": Place("flowplatform_client.cli.run", "run", "Run a command and report it as a task."),
    "tag": Place("flowplatform_client.cli.tag", "tag", "Add a tag to a task, or remove it."),
    "replay": Place("flowplatform_client.cli.replay", "replay", "Play a recorded workflow (WfFormat 1.5)."),
    "completion": Place("flowplatform_client.cli.completion", "completion", "Print what completes this in a shell."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names."""
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in COMMANDS:
            return None
        place = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(place.module), place.name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.help) for name, place in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """Look at Flow Platform, watch what runs there, and report to it.

    Server and token are those of `flowplatform login`, or of the environment variables FLOWPLATFORM_URL and
    FLOWPLATFORM_TOKEN.

    Exit codes: 0 done; 1 the server refused; 2 arguments that cannot be used; 3 no answer; 4 no valid token; 5 `watch`:
    the execution failed or was cancelled; 130 interrupted. `run` ends as its command does.
    """
