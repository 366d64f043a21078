"""Drawing an execution in a terminal: where it stands, and a line for each task that there is room for."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flowplatform_client.cli.output import printable
from flowplatform_client.cli.run_view import RunView, TaskView
from flowplatform_client.cli.states import ENDED, GLYPHS, STYLES, state_of, state_of_run, word_of

REDRAWS_A_SECOND = 4
OTHER_LINES = 7  # the head, the bar and the counts, the columns' names, what is left out, and two that are empty
BAR_WIDTH = 40

# Where there is no room for all: what is going on, what went wrong, what waits.
_ORDER = ["running", "awaiting", "failed", "other", "queued", "cancelled", "completed", "skipped", "unreported"]


class Drawing:
    """An execution as it is at the moment of drawing."""

    def __init__(self, view: RunView) -> None:
        self._view = view

    def live(self) -> Live:
        """Return what draws it again and again, in place."""
        return Live(self, refresh_per_second=REDRAWS_A_SECOND, vertical_overflow="crop")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        tasks = [*self._view.tasks.values()]
        shown = _shown(tasks, max(1, (options.height or console.height) - OTHER_LINES))
        yield Group(self._head(), _bar(tasks), self._counts(), Text(), _table(shown), *_left_out(tasks, shown))

    def _head(self) -> Text:
        view = self._view
        state = state_of_run(view.status, view.counts)
        word = state if state_of(view.status) == "queued" else word_of(view.status)
        head = Text.assemble((printable(view.flow_name), "bold"), "  ", (view.execution.id, "dim"), "  ")
        return head.append(f"{GLYPHS[state]} {printable(word)}", STYLES[state])

    def _counts(self) -> Text:
        counts = self._view.counts
        words = {**{state: state for state in GLYPHS}, "unreported": word_of(None)}
        there = [state for state in GLYPHS if counts[state]]
        told = [Text(f"{GLYPHS[state]} {counts[state]:,} {words[state]}", STYLES[state]) for state in there]
        return Text("  ", no_wrap=True, overflow="ellipsis").join(told)


def _bar(tasks: Sequence[TaskView]) -> Table:
    done = sum(task.status in ENDED for task in tasks)
    row = Table.grid(padding=(0, 2, 0, 0))
    row.add_row(ProgressBar(len(tasks), done, width=BAR_WIDTH), f"{done:,} of {len(tasks):,}")
    return row


def _shown(tasks: Sequence[TaskView], room: int) -> Sequence[TaskView]:
    """Return the tasks to draw, in their order."""
    if len(tasks) <= room:
        return tasks
    by_weight = sorted(range(len(tasks)), key=lambda index: (_ORDER.index(tasks[index].state), index))
    return [tasks[index] for index in sorted(by_weight[:room])]


def _left_out(tasks: Sequence[TaskView], shown: Sequence[TaskView]) -> Iterator[Text]:
    if len(shown) < len(tasks):
        yield Text(f"and {len(tasks) - len(shown):,} more", "dim")


def _table(tasks: Sequence[TaskView]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("task", overflow="ellipsis", no_wrap=True, ratio=2)
    table.add_column("status", no_wrap=True)
    table.add_column("since", no_wrap=True)
    table.add_column("time", no_wrap=True, justify="right")
    table.add_column("", overflow="ellipsis", no_wrap=True, ratio=3)
    now = datetime.now(timezone.utc)
    for task in tasks:
        style = STYLES[task.state]
        table.add_row(
            Text(printable(task.name)),
            Text(f"{GLYPHS[task.state]} {printable(word_of(task.status))}", style),
            Text(clock(task.started_at or task.changed_at)),
            Text(duration(task.seconds(now))),
            Text(printable(_note(task)), "red" if task.error else "yellow"),
        )
    return table


def _note(task: TaskView) -> str:
    """Return what there is to say about a task beside its status, in one line."""
    return "; ".join([*(["stale"] if task.is_stale else []), *([_line(task.error)] if task.error else [])])


def _line(error: Any) -> str:
    text = error if isinstance(error, str) else json.dumps(error, ensure_ascii=False)
    return text.strip().partition("\n")[0]


def clock(time: datetime | None) -> str:
    """Return the time of day here."""
    return "" if time is None else time.astimezone().strftime("%H:%M:%S")


def duration(seconds: float | None) -> str:
    """Return how long something lasted, in a few characters."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
