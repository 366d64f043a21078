"""`flowplatform completion`."""

import click
from click.shell_completion import get_completion_class

from flowplatform_client.cli.exits import USAGE, CommandError

VARIABLE = "_FLOWPLATFORM_COMPLETE"  # by which click knows that a shell asks


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what completes this command in a shell: eval "$(flowplatform completion bash)"."""
    completer = get_completion_class(shell)
    if completer is None:
        raise CommandError(f"{shell} cannot be completed", USAGE)
    click.echo(completer(ctx.find_root().command, {}, "flowplatform", VARIABLE).source())
