"""`manage.py up`: the whole platform on this machine, from nothing to an address that answers, until Ctrl-C."""

import signal
from types import FrameType
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from flowplatform import checks, env
from flowplatform.progress import Progress
from flowplatform.supervisor import Platform, PlatformError, running_platform

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C, kill, and a terminal that was closed


class Command(BaseCommand):
    """Bring the platform up, say how to use it, and watch it until a person or a failure ends it."""

    help = "Run the whole platform: database, broker, web server, workers and a demo worker. Ctrl-C stops it all."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="where to listen on 127.0.0.1 (default: 8000)")
        parser.add_argument(
            "--web-processes",
            type=int,
            metavar="N",
            help="serve HTTP by N processes of the production server, and the sockets on the port after it "
            "(default: one process serves both on one port)",
        )
        # Taken by manage.py, which must know it before the settings are read; declared here for --help.
        parser.add_argument("--data-dir", metavar="DIR", help="where everything is kept (default: .data)")
        parser.add_argument("--no-demo", action="store_true", help="run no demo worker")

    def handle(self, *args: Any, port: int, web_processes: int | None, no_demo: bool, **options: Any) -> None:
        _validate(port, web_processes)
        checks.refuse_unsafe()  # before anything is touched: what it would start refuses too
        console = Console()
        _listen()
        try:
            with running_platform(
                data_dir=env.DATA_DIR,
                port=port,
                demo=not no_demo,
                web_processes=web_processes,
                progress=Progress(console),
            ) as platform:
                _serve(platform, console)
        except PlatformError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            console.print("Stopped before everything was up.")


def _validate(port: int, web_processes: int | None) -> None:
    """Raise CommandError for numbers that cannot be."""
    if not 1 <= port <= 65535:
        raise CommandError("A port is a number from 1 to 65535.")
    if web_processes is None:
        return
    if web_processes < 1:
        raise CommandError("--web-processes must be at least 1.")
    if port == 65535:
        raise CommandError("With --web-processes the sockets are on the port after --port: choose one below 65535.")


def _listen() -> None:
    """Have the signals interrupt us, but not a closed terminal if `nohup` says so."""
    for number in _SIGNALS:
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt_once)


def _interrupt_once(number: int, frame: FrameType | None) -> None:
    """End what is going on, once: an impatient second Ctrl-C must not leave half of the processes behind."""
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _serve(platform: Platform, console: Console) -> None:
    try:
        _introduce(platform, console)
        platform.watch()
    except KeyboardInterrupt:
        console.print("Stopping…")


def _introduce(platform: Platform, console: Console) -> None:
    """Print what a newcomer needs: where to look, who to be, and a first request."""
    who = platform.credentials
    rows = Table.grid(padding=(0, 3))
    rows.add_row("Address", f"[bold]{platform.url}/[/]")
    rows.add_row("Sockets", f"{platform.topology.sockets_url}/ws/")
    rows.add_row("API", f"{platform.url}/api/docs/")
    rows.add_row("Sign in as", f"{who.username}  password {who.password or 'as you have set it'}")
    rows.add_row("Service token", who.token)
    rows.add_row("Organization", who.organization)
    console.print(Panel.fit(rows, title="Flow Platform", subtitle="Ctrl-C stops everything", padding=(1, 2)))
    # Outside of the box and never wrapped: it has to work when pasted.
    curl = f"curl -H 'Authorization: Bearer {who.token}' {platform.url}/api/flows"
    console.print(curl, markup=False, highlight=False, soft_wrap=True)
