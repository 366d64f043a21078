"""How a start goes, for the person who waits for it: a spinner on a terminal, plain lines anywhere else."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class Progress:
    """Shows the steps of a start on a console."""

    def __init__(self, console: Console) -> None:
        self._console = console

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show what is being done for the duration of a with statement."""
        if not self._console.is_terminal:
            self.note(f"{text}…")
            yield
            return
        started = time.monotonic()
        with self._console.status(f"{text}…"):
            yield
        self._console.print(f"[green]✓[/] {text} [dim]{time.monotonic() - started:.1f} s[/]")

    def note(self, text: str) -> None:
        """Show a line that stays."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
