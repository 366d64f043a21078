"""`flowplatform login` and `logout`."""

import sys

import click

from flowplatform_client import ForbiddenError
from flowplatform_client.address import TOKEN_VARIABLE, Address, plain_http_is_allowed
from flowplatform_client.cli.connection import connected
from flowplatform_client.cli.credentials import credentials_file, forget, save
from flowplatform_client.cli.exits import USAGE, CommandError


@click.command()
@click.option("--url", metavar="URL", help="Address of the server, such as https://flows.example.")
@click.option(
    "--token",
    metavar="TOKEN",
    envvar=TOKEN_VARIABLE,
    help="Service token. Others may see the command line: rather be asked for it, or write it to standard input.",
)
@click.option("--organization", metavar="SLUG", help="Which one, for a token of several.")
@click.option("--sockets-url", metavar="URL", help="Where the sockets are, if not at the same address.")
@click.option("--allow-plain-http", is_flag=True, help="Let the token travel readable by others on the way.")
def login(
    url: str | None, token: str | None, organization: str | None, sockets_url: str | None, allow_plain_http: bool
) -> None:
    """Keep the address of a server and a token for it, once the server has accepted them."""
    address = Address(
        url or _asked("Address of the server"),
        token or _asked("Service token", hidden=True),
        organization=organization,
        sockets_url=sockets_url,
        allow_plain_http=allow_plain_http or plain_http_is_allowed(),
    )
    with connected(address) as platform:
        try:
            platform.flows.list(page_size=1).first()
        except ForbiddenError:
            click.echo("The token may report, but not read.", err=True)
    click.echo(f"Logged in to {address.url}; kept in {save(address)}.")


@click.command()
def logout() -> None:
    """Forget the address and the token."""
    where = credentials_file()
    click.echo(f"Forgotten: {where} is gone." if forget() else "Nothing was known.")


def _asked(what: str, *, hidden: bool = False) -> str:
    """Ask a person, or read a token that another program writes."""
    if sys.stdin.isatty():
        return str(click.prompt(what, hide_input=hidden)).strip()
    if not hidden:
        raise CommandError("--url is missing: say where the server is", USAGE)
    return sys.stdin.readline().strip()
