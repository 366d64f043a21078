"""Printing: one JSON object a line for programs, a table for people."""

import dataclasses
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import click

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")


_CONTROLS = dict.fromkeys((*range(32), *range(127, 160)), "�")


def printable(text: str) -> str:
    """Return a text that does nothing to a terminal: whoever reports may choose names, statuses and errors."""
    return text.translate(_CONTROLS)


def print_json(value: Any) -> None:
    """Print a model or a JSON object as one line, at once: whoever reads may be waiting for it."""
    data = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    print(json.dumps(data, ensure_ascii=False, default=_plain), flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], nothing: str) -> None:
    """Print a table, or what is said when it would be empty."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in columns:
        # What has to be copied is never cut short.
        table.add_column(column, no_wrap=column == "id", overflow="ellipsis", min_width=36 if column == "id" else None)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # names are no markup
    if table.row_count:
        # A pipe has no width that anything would have to fit into.
        Console(width=None if sys.stdout.isatty() else 1000).print(table)
    else:
        print(nothing)


def local(time: datetime) -> str:
    """Return a time as people here read it."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} is not JSON")
