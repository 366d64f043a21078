"""`with reporter.task(...)` and the decorator on the real server: what the platform has of it, and what passes."""

import asyncio
import threading
from collections.abc import Generator, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flowplatform_client import FlowPlatform
from flowplatform_client.reporter import Reporter, described

from executions.reruns import execute_again
from tests.builders import make_actor, make_token
from tests.client.conftest import Asker
from tests.client.reporting import Run
from tests.conftest import Platform

SECONDS = 20.0


@pytest.fixture
def run(committed: None) -> Run:
    return Run()


@pytest.fixture
def reporter(run: Run, platform: Platform, tmp_path: Path) -> Iterator[Reporter]:
    with Reporter(FlowPlatform(platform.url, run.token), run.id, spool=tmp_path) as made:
        yield made


def test_a_task_runs_and_is_completed(run: Run, reporter: Reporter) -> None:
    begin = datetime.now(UTC)
    with reporter.task("extract", input={"pages": 2}) as task:
        task.output = {"total": 119.0}
    assert reporter.flush(SECONDS)
    assert run.history() == [("extract", "running"), ("extract", "completed")]
    assert run.states() == {"extract": "completed"}
    [attempt] = run.attempts("extract")
    assert (attempt.task_execution_idx, attempt.processing_status) == (0, "completed")
    assert (attempt.input, attempt.output, attempt.error) == ({"pages": 2}, {"total": 119.0}, None)
    assert attempt.started_at is not None
    assert attempt.completed_at is not None
    assert begin <= attempt.started_at <= attempt.completed_at <= datetime.now(UTC)


def test_a_task_is_running_as_long_as_it_runs(run: Run, reporter: Reporter) -> None:
    with reporter.task("extract"):
        assert reporter.flush(SECONDS)
        [attempt] = run.attempts("extract")
        assert (run.states(), attempt.processing_status) == ({"extract": "running"}, "running")
        assert attempt.completed_at is None


def test_an_exception_passes_and_is_the_error_of_the_attempt(run: Run, reporter: Reporter) -> None:
    error = ZeroDivisionError("no pages\0 \ud800")

    def divide() -> None:
        raise error

    def work() -> None:
        with reporter.task("extract") as task:
            task.output = "half of it"
            divide()

    with pytest.raises(ZeroDivisionError) as raised:
        work()
    assert raised.value is error
    assert reporter.flush(SECONDS)
    assert run.history() == [("extract", "running"), ("extract", "failed")]
    [attempt] = run.attempts("extract")
    assert (attempt.processing_status, attempt.output) == ("failed", "half of it")
    assert attempt.error["type"] == "ZeroDivisionError"
    assert attempt.error["message"] == "no pages\ufffd ?"
    assert "in divide\n    raise error" in attempt.error["traceback"]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (SystemExit(), "completed"),
        (SystemExit(0), "completed"),
        (SystemExit("no"), "failed"),
        (BaseException(), "failed"),
    ],
)
def test_other_ways_to_leave_a_task(run: Run, reporter: Reporter, error: BaseException, status: str) -> None:
    with pytest.raises(type(error)), reporter.task("extract"):
        raise error
    assert reporter.flush(SECONDS)
    assert run.states() == {"extract": status}
    [attempt] = run.attempts("extract")
    assert attempt.processing_status == status


def test_each_time_is_the_next_attempt(run: Run, reporter: Reporter, platform: Platform, tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="again"), reporter.task("extract"):
            raise ValueError("again")
    assert reporter.flush(SECONDS)
    # Another worker takes over.
    with Reporter(FlowPlatform(platform.url, run.token), run.id, spool=tmp_path) as other, other.task("extract"):
        pass
    states = [(attempt.task_execution_idx, attempt.processing_status) for attempt in run.attempts("extract")]
    assert states == [(0, "failed"), (1, "failed"), (2, "completed")]


def test_the_number_of_an_attempt_may_be_given(run: Run, reporter: Reporter) -> None:
    with reporter.task("extract", attempt=4):
        pass
    assert reporter.flush(SECONDS)
    assert [attempt.task_execution_idx for attempt in run.attempts("extract")] == [4]


def test_an_attempt_that_was_queued_again_goes_on(run: Run, reporter: Reporter) -> None:
    with reporter.task("extract"):
        pass
    assert reporter.flush(SECONDS)
    execute_again(actor=make_actor(run.organization), execution_id=run.execution.pk, only_stale=False)
    assert run.states() == {"extract": "queued"}
    with reporter.task("extract"):
        pass
    assert reporter.flush(SECONDS)
    assert run.states() == {"extract": "completed"}
    assert [attempt.processing_status for attempt in run.attempts("extract")] == ["completed"]


def test_a_task_says_something_in_between(run: Run, reporter: Reporter) -> None:
    with reporter.task("extract") as task:
        task.status("awaiting_input")
        task.status("running")
    assert reporter.flush(SECONDS)
    assert [status for _, status in run.history()] == ["running", "awaiting_input", "running", "completed"]


def test_functions_coroutines_and_generators_are_decorated(run: Run, reporter: Reporter) -> None:
    @reporter.task("extract", keep_result=True)
    def double(number: int) -> int:
        """Twice as much."""
        return 2 * number

    @reporter.task("classify", keep_result=True)
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return 3 * number

    @reporter.task("extract")
    def count(to: int) -> Generator[int, str, str]:
        for number in range(to):
            assert (yield number) is None or number
        return "counted"

    async def both() -> list[int]:
        return await asyncio.gather(later(1), later(2))

    assert (double(2), double.__name__, double.__doc__) == (4, "double", "Twice as much.")
    assert asyncio.run(both()) == [3, 6]
    assert [*count(3)] == [0, 1, 2]
    assert reporter.flush(SECONDS)
    assert [attempt.output for attempt in run.attempts("extract")] == [4, None]
    assert sorted(attempt.output for attempt in run.attempts("classify")) == [3, 6]
    assert run.states() == {"extract": "completed", "classify": "completed"}


def test_a_generator_that_is_not_read_to_its_end_is_cancelled(run: Run, reporter: Reporter) -> None:
    @reporter.task("extract")
    def count() -> Iterator[int]:
        yield from range(10)

    for number in count():
        if number == 2:
            break
    assert reporter.flush(SECONDS)
    assert run.states() == {"extract": "cancelled"}


def test_an_asynchronous_generator_is_refused(reporter: Reporter) -> None:
    with pytest.raises(TypeError, match="asynchronous generator"):

        @reporter.task("extract")
        async def count() -> Any:
            yield 1


def test_one_decorated_function_runs_in_many_threads_and_within_itself(run: Run, reporter: Reporter) -> None:
    @reporter.task("extract", keep_result=True)
    def factorial(number: int) -> int:
        return 1 if number == 0 else number * factorial(number - 1)

    threads = [threading.Thread(target=factorial, args=(2,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reporter.flush(SECONDS)
    attempts = run.attempts("extract")
    assert [attempt.task_execution_idx for attempt in attempts] == [*range(9)]
    assert sorted(attempt.output for attempt in attempts) == [1, 1, 1, 1, 1, 1, 2, 2, 2]


def test_async_with_does_the_same(run: Run, reporter: Reporter) -> None:
    async def work() -> None:
        async with reporter.task("extract") as task:
            task.output = await asyncio.sleep(0, [1])

    asyncio.run(work())
    assert reporter.flush(SECONDS)
    assert [attempt.output for attempt in run.attempts("extract")] == [[1]]


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_executions_of_both_clients_have_tasks(
    run: Run, platform: Platform, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLOWPLATFORM_SPOOL", str(tmp_path))
    ask = Asker(kind, platform.url, run.token)
    execution = ask(lambda mine: mine.executions.get(run.id))
    with execution.task("extract") as task:
        task.output = [1]
    [listed] = ask(lambda mine: mine.executions.list(execution.flow_id))
    with listed.task("classify"):
        pass
    for one in (execution, listed):
        assert one.reporter().flush(SECONDS)
        one.reporter().close()
    ask.close()
    assert listed == execution
    assert listed.platform is ask.platform
    assert run.states() == {"extract": "completed", "classify": "completed"}


@pytest.mark.parametrize(
    "output", [object(), float("nan"), {1, 2}, "x" * 1_200_000, {"a\0": 1}, [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]
)
def test_an_output_that_the_platform_does_not_take_costs_itself_alone(
    run: Run, reporter: Reporter, output: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with reporter.task("extract") as task:
        task.output = output
    assert reporter.flush(SECONDS)
    [attempt] = run.attempts("extract")
    assert (attempt.processing_status, attempt.output) == ("completed", None)
    assert attempt.completed_at is not None
    assert run.states() == {"extract": "completed"}
    assert "left out" in caplog.text


def test_what_cannot_be_reported_breaks_no_work(run: Run, reporter: Reporter) -> None:
    class RudeError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    with pytest.raises(RudeError), reporter.task("extract"):
        raise RudeError
    with reporter.task("no such task"):
        pass
    with reporter.task("extract"):
        pass
    assert reporter.flush(SECONDS)
    assert run.states() == {"extract": "completed"}
    assert described(RudeError())["type"].endswith("RudeError")


def test_a_token_for_statuses_alone_reports_them(
    run: Run, platform: Platform, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    token = make_token(run.organization, ["status:write", "read"])
    with Reporter(FlowPlatform(platform.url, token), run.id, spool=tmp_path) as reporter:
        for _ in range(2):
            with reporter.task("extract"):
                pass
        assert reporter.flush(SECONDS)
    assert run.history() == [("extract", "running"), ("extract", "completed")] * 2
    assert run.attempts("extract") == []
    assert "an attempt of task 'extract'" in caplog.text
