"""`with reporter.task("extract") as task:`: an attempt of a task, from running to completed, failed or cancelled."""

import asyncio
import functools
import inspect
import logging
import secrets
import traceback
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timezone
from types import TracebackType
from typing import Any, Protocol, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])

TRACEBACK_CHARACTERS = 16_000

_log = logging.getLogger("flowplatform_client.reporter")


class Reporting(Protocol):
    """What a task needs of a reporter."""

    def status(self, task: str, status: str) -> None:
        """Report a status of a task."""

    def attempt(self, run: str, task: str, *, number: int | None = None, **says: Any) -> None:
        """Report an attempt of a task, or more of it."""


class TaskRun:
    """One attempt of a task. `output` and `error` may be set by the work, to anything that JSON has.

    Both the history and the attempts are told of it: the history decides the state that the pages show, the attempts
    have input, output, error and when it began and ended by the clock of this machine.
    """

    def __init__(self, reporter: Reporting, name: str, *, input: Any = None, attempt: int | None = None) -> None:
        self.name = name
        self.output: Any = None
        self.error: Any = None
        self._reporter = reporter
        self._number = attempt
        self._run = secrets.token_hex(8)
        self._input = input
        self._started_at = _now()

    def status(self, status: str) -> None:
        """Report something between the beginning and the end, such as `awaiting_input`."""
        self._reporter.status(self.name, status)

    def begin(self) -> None:
        """Report that it is running."""
        self._reporter.status(self.name, "running")
        given = {} if self._input is None else {"input": self._input}
        self._say("running", started_at=self._started_at, **given)

    def end(self, error: BaseException | None = None) -> None:
        """Report how it ended: with an exception, or well."""
        status = _status_after(error)
        if error is not None and status != "completed" and self.error is None:
            self.error = described(error)
        self.finish(status)

    def finish(self, status: str) -> None:
        """Report a last status, with `output` and `error`."""
        told = {name: value for name, value in (("output", self.output), ("error", self.error)) if value is not None}
        self._say(status, started_at=self._started_at, completed_at=_now(), **told)
        self._reporter.status(self.name, status)

    def _say(self, status: str, **says: Any) -> None:
        self._reporter.attempt(self._run, self.name, number=self._number, processing_status=status, **says)


@dataclass
class Task(AbstractContextManager["TaskRun", None], AbstractAsyncContextManager["TaskRun", None]):
    """A task to do: in a `with` or `async with` statement, or as the decorator of a function, coroutine or generator.

    Each time is an attempt of its own: the next one, or `attempt`, counted from 0. Exceptions pass through. With
    `keep_result` what the decorated function returns is the output.
    """

    reporter: Reporting
    name: str
    input: Any = None
    attempt: int | None = None
    keep_result: bool = False

    def __post_init__(self) -> None:
        self._runs: list[TaskRun] = []

    def __enter__(self) -> TaskRun:
        run = TaskRun(self.reporter, self.name, input=self.input, attempt=self.attempt)
        self._runs.append(run)
        run.begin()
        return run

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runs.pop().end(error)

    async def __aenter__(self) -> TaskRun:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        """Report every call of a function. Raises `TypeError` for an asynchronous generator, whose end nobody sees."""
        if inspect.isasyncgenfunction(function):
            raise TypeError("an asynchronous generator cannot be a task: decorate the coroutine that reads it")
        if inspect.iscoroutinefunction(function):
            return cast(F, self._coroutine(function))
        if inspect.isgeneratorfunction(function):
            return cast(F, self._generator(function))
        return cast(F, self._function(function))

    def _again(self) -> "Task":
        """Return one like this for a single call: calls may overlap, in threads and coroutines."""
        return Task(self.reporter, self.name, self.input, self.attempt, self.keep_result)

    def _function(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def reported(*args: Any, **kwargs: Any) -> Any:
            with self._again() as run:
                return self._kept(run, function(*args, **kwargs))

        return reported

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        async def reported(*args: Any, **kwargs: Any) -> Any:
            with self._again() as run:
                return self._kept(run, await function(*args, **kwargs))

        return reported

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def reported(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
            with self._again() as run:
                return self._kept(run, (yield from function(*args, **kwargs)))

        return reported

    def _kept(self, run: TaskRun, result: Any) -> Any:
        if self.keep_result:
            run.output = result
        return result


def described(error: BaseException) -> Mapping[str, str]:
    """Return an exception as JSON: its type, its message and where it came from. Never raises."""
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    try:
        lines = "".join(traceback.format_exception(kind, error, error.__traceback__))
        return {"type": name, "message": shortened(str(error)), "traceback": shortened(lines)}
    except Exception:  # an exception of the work's own may do anything when it is asked for its text
        _log.warning("the text of an error could not be had", exc_info=True)
        return {"type": name, "message": "", "traceback": ""}


def _status_after(error: BaseException | None) -> str:
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "completed"
    if isinstance(error, asyncio.CancelledError | KeyboardInterrupt | GeneratorExit):
        return "cancelled"
    return "failed"


def shortened(text: str) -> str:
    """Return a text without what the API refuses; of a long one the end counts most, and a little of its beginning."""
    text = text.replace("\0", "\ufffd")
    if len(text) <= TRACEBACK_CHARACTERS:
        return text
    head = TRACEBACK_CHARACTERS // 8
    return f"{text[:head]}\n…\n{text[head - TRACEBACK_CHARACTERS :]}"


def _now() -> str:
    return datetime.now(timezone.utc).isoformat()
