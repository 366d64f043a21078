"""`flowplatform watch`."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import click

from flowplatform_client import Event, FlowPlatform, Reset
from flowplatform_client.cli.connection import connected
from flowplatform_client.cli.exits import DONE, ENDED_BADLY
from flowplatform_client.cli.naming import checked_id
from flowplatform_client.cli.output import as_json, local, print_json, printable
from flowplatform_client.cli.run_view import RunView, TaskView
from flowplatform_client.cli.states import word_of


class Shown(Protocol):
    """A way to show what happens. Each item comes with the tasks that it changed."""

    def __call__(self, item: Event | Reset, changed: Sequence[TaskView]) -> None:
        """Show an item."""


@click.command()
@click.argument("execution", callback=checked_id)
@as_json
@click.pass_context
def watch(ctx: click.Context, execution: str, as_json: bool) -> None:
    """Watch the tasks of EXECUTION until all of them have ended, or it has itself, or until Ctrl-C.

    With --json every event of the execution is a line, and so is a "reset": what came before it is not told.
    """
    with connected() as platform:
        view = RunView(platform, platform.executions.get(execution))
        with _shown(view, as_json) as show:
            _follow(platform, view, show)
    ctx.exit(ENDED_BADLY if view.ended_badly else DONE)


def _follow(platform: FlowPlatform, view: RunView, show: Shown) -> None:
    with platform.watch(view.execution.flow_id) as items:
        for item in items:
            if isinstance(item, Reset):
                show(item, view.fetch())
            elif view.concerns(item):
                show(item, view.apply(item))
            if view.is_over:
                return


@contextmanager
def _shown(view: RunView, as_json: bool) -> Iterator[Shown]:
    """Show what happens as JSON, as a picture for a person at a terminal, or as lines for a log."""
    if as_json:
        yield _print_event
    elif sys.stdout.isatty():
        from flowplatform_client.cli.drawing import Drawing

        with Drawing(view).live():
            yield lambda item, changed: None
    else:
        yield _print_changes
        print(printable(f"{view.flow_name} {view.execution.id}: {word_of(view.status)}"), flush=True)


def _print_event(item: Event | Reset, changed: Sequence[TaskView]) -> None:
    print_json({"type": "reset", "epoch": item.epoch, "offset": item.offset} if isinstance(item, Reset) else item)


def _print_changes(item: Event | Reset, changed: Sequence[TaskView]) -> None:
    for task in changed:
        assert task.changed_at is not None
        print(local(task.changed_at), printable(task.name), printable(word_of(task.status)), flush=True)
