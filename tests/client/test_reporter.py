"""The reporter on the real server: what it was told arrives, once and in order, whatever happens on the way."""

import itertools
import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flowplatform_client import FlowPlatform
from flowplatform_client.reporter import Reporter, lane
from flowplatform_client.reporter.delivery import Delivery

from executions.services import delete_execution
from notifications.models import Event
from tests.builders import make_actor, make_token
from tests.client.reporting import PATIENCE_SECONDS, Run, Way, leave, script, some, tell, way_to
from tests.conftest import Platform
from tests.faults.proxy import Mode
from tests.stack import wait_until

SECONDS = 20.0
Make = Callable[..., Reporter]


@pytest.fixture
def run(committed: None) -> Run:
    return Run()


@pytest.fixture
def way(platform: Platform) -> Iterator[Way]:
    with way_to(platform.port) as found:
        yield found


@pytest.fixture
def make(run: Run, platform: Platform, tmp_path: Path) -> Iterator[Make]:
    """Make reporters of the run, with the same spool folder unless another one is named."""
    made: list[Reporter] = []

    def _make(url: str = platform.url, token: str = run.token, execution_id: str = run.id, **options: Any) -> Reporter:
        reporter = Reporter(FlowPlatform(url, token), execution_id, **{"spool": tmp_path, **options})
        made.append(reporter)
        return reporter

    yield _make
    for reporter in made:
        reporter.close(0)


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane, "PAUSES", lane.RetryPolicy(first_pause_seconds=0.02, longest_pause_seconds=0.1))


@pytest.fixture(autouse=True)
def _no_bug(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception ended a round of the thread."""
    yield
    assert "was interrupted" not in caplog.text


def spools(folder: Path) -> list[Path]:
    return [path for server in folder.iterdir() for path in server.iterdir()]


def batches(run: Run) -> list[int]:
    """Return how many statuses came in each request."""
    events = Event.objects.filter(flow_execution_id=run.id, type="task_status.added").order_by("id")
    return [len(event.data["statuses"]) for event in events]


def test_statuses_arrive_in_order_up_to_a_hundred_at_a_time(run: Run, make: Make) -> None:
    reporter = make()
    tell(reporter, some(250))
    assert reporter.flush(SECONDS)
    assert run.history() == some(250)
    assert max(batches(run)) == 100
    assert len(batches(run)) < 10
    assert reporter.unsent == 0


def test_a_single_status_does_not_wait_for_more(run: Run, make: Make) -> None:
    make().status("extract", "running")
    wait_until(lambda: run.history() == [("extract", "running")])


def test_every_thread_keeps_its_order(run: Run, make: Make) -> None:
    reporter = make()
    threads = [
        threading.Thread(target=tell, args=(reporter, [(task, f"{name} {number}") for number in range(300)]))
        for name, task in enumerate(["extract", "classify"] * 2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reporter.flush(SECONDS)
    for name in range(4):
        of_thread = [status for _, status in run.history() if status.startswith(f"{name} ")]
        assert of_thread == [f"{name} {number}" for number in range(300)]


@pytest.mark.parametrize(
    ("fault", "options"),
    [("refuse", {}), ("swallow", {}), ("refuse", {"spool": None})],
    ids=["refuse", "swallow", "memory"],
)
def test_what_is_told_while_the_platform_is_away_arrives_later(
    run: Run, make: Make, way: Way, fault: Mode, options: dict[str, None], caplog: pytest.LogCaptureFixture
) -> None:
    reporter = make(way.url, timeout=0.3, **options)
    tell(reporter, some(150))
    assert reporter.flush(SECONDS)
    way.turn(fault)
    tell(reporter, some(250, 150))
    assert not reporter.flush(0.5)
    assert "wait and are tried again" in caplog.text
    way.turn("pass")
    assert reporter.flush(SECONDS)
    assert run.history() == some(400)


def test_a_batch_whose_answer_is_lost_is_written_once(run: Run, make: Make, way: Way) -> None:
    reporter = make(way.url)
    for number in range(5):
        way.turn(("forget", "halve")[number % 2])
        tell(reporter, some(120, 120 * number))
        wait_until(lambda number=number: len(run.history()) > 120 * number)
        way.turn("pass")
        assert reporter.flush(SECONDS)
    assert run.history() == some(600)


def test_a_wrong_task_costs_itself_alone(run: Run, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    reporter = make()
    told = some(100)
    told[3] = told[70] = ("extrct", "running")
    tell(reporter, told)
    assert reporter.flush(SECONDS)
    assert run.history() == [each for each in told if each[0] != "extrct"]
    assert "'running' of task 'extrct', 'running' of task 'extrct'" in caplog.text
    assert "does not define these tasks" in caplog.text  # in the server's words, with what its logs know it by
    assert "[request " in caplog.text


def test_a_wrong_task_costs_itself_alone_over_lost_answers(
    run: Run, make: Make, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    way.turn("forget")
    first = make(way.url)
    told = [("extract", "one"), ("extrct", "two"), ("classify", "three")]
    tell(first, told)
    wait_until(lambda: "are tried again" in caplog.text)  # the answer that refuses it was lost
    way.turn("pass")
    assert first.flush(SECONDS)
    assert run.history() == [told[0], told[2]]


@pytest.mark.parametrize(
    "wrong",
    [("extract", ""), ("", "running"), ("extract", "x" * 51), ("extract", "a\0b"), ("extract", "\ud800" * 60),
     ("x" * 1_500_000, "running"), (None, "running"), ("extract", 7), ("extract", b"running"), (["a"], object())],
)  # fmt: skip
def test_whatever_is_told_nothing_is_raised_and_the_rest_arrives(
    run: Run, make: Make, wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = make()
    tell(reporter, [*some(3), wrong, *some(3, 3)])
    assert reporter.flush(SECONDS)
    assert run.history() == some(6)
    assert [record for record in caplog.records if record.levelno == logging.ERROR]


def test_statuses_of_a_deleted_execution_are_given_up(run: Run, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    delete_execution(actor=make_actor(run.organization), execution_id=run.execution.pk)
    reporter = make()
    tell(reporter, some(3))
    assert reporter.flush(SECONDS)
    assert run.history() == []
    assert "refused for good and left out" in caplog.text


def test_statuses_that_the_token_may_not_report_are_given_up(
    run: Run, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    reporter = make(token=make_token(run.organization, ["read"]))
    tell(reporter, some(3))
    assert reporter.flush(SECONDS)
    assert "refused for good and left out" in caplog.text


def test_what_a_token_that_has_ended_cannot_report_is_kept_for_another_one(
    run: Run, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    ended = make(token="ended")
    tell(ended, some(3))
    wait_until(lambda: "wait and are tried again" in caplog.text)
    assert run.history() == []
    assert not ended.close()
    renewed = make()
    tell(renewed, some(3, 3))
    assert renewed.flush(SECONDS)
    assert run.history() == some(6)


def test_a_reporter_sends_what_killed_ones_have_left_before_its_own(
    run: Run, make: Make, way: Way, tmp_path: Path
) -> None:
    way.turn("refuse")
    for number in range(2):
        leave(run, way.url, tmp_path, 150, 150 * number)
    reporter = make(way.url)
    tell(reporter, some(150, 300))
    assert run.history() == []
    way.turn("pass")
    assert reporter.flush(SECONDS)
    assert run.history() == some(450)
    assert reporter.close()
    wait_until(lambda: spools(tmp_path) == [], what="the removal of the spools")


def test_a_reporter_that_waits_for_what_others_have_left_does_not_spin(
    run: Run, make: Make, way: Way, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    way.turn("refuse")
    leave(run, way.url, tmp_path, 10)
    rounds: list[float] = []
    turn = Delivery._round
    monkeypatch.setattr(Delivery, "_round", lambda self: rounds.append(time.monotonic()) or turn(self))
    reporter = make(way.url)
    tell(reporter, some(150, 10))
    assert not reporter.flush(1)
    assert len(rounds) < 100
    begin = time.monotonic()
    assert not reporter.close(60)
    assert time.monotonic() - begin < 30  # the platform is away for what goes first, so it is for ours
    way.turn("pass")
    assert reporter.flush(SECONDS)
    assert run.history() == some(160)


def test_an_attempt_that_has_ended_meanwhile_does_not_run_again_when_its_beginning_is_found(
    run: Run, make: Make, way: Way, tmp_path: Path
) -> None:
    """Its process was killed before it could send anything, and another one has told of its end."""
    way.turn("refuse")
    source = """
        for task in ("extract", "classify"):
            reporter.attempt("a run", task, number=0, processing_status="running", started_at="2026-11-22T10:00:00Z")
        os.kill(os.getpid(), signal.SIGKILL)
    """
    script(run, way.url, tmp_path, source).communicate(timeout=PATIENCE_SECONDS)
    other = make(spool=None)
    end = {"processing_status": "failed", "completed_at": "2026-11-22T10:00:01Z"}
    other.attempt("a run", "extract", number=0, **end)
    assert other.flush(SECONDS)
    way.turn("pass")
    make(way.url)
    wait_until(lambda: run.states().get("classify") == "running", what="the other attempt")
    assert run.states()["extract"] == "failed"


def test_a_batch_that_a_killed_reporter_has_sent_is_not_written_again(
    run: Run, make: Make, way: Way, tmp_path: Path
) -> None:
    way.turn("forget")
    source = """
        for number in range(150):
            reporter.status(("extract", "classify")[number % 2], f"step {number}")
        print("told", flush=True)
        time.sleep(60)
    """
    process = script(run, way.url, tmp_path, source)
    wait_until(lambda: len(run.history()) == 100)
    process.kill()
    process.communicate()
    way.turn("pass")
    reporter = make(way.url)
    tell(reporter, some(10, 150))
    assert reporter.flush(SECONDS)
    assert run.history() == some(160)


def test_what_is_left_of_other_executions_is_sent_as_well(run: Run, make: Make, way: Way, tmp_path: Path) -> None:
    other = Run(organization=run.organization)
    other.token = run.token
    way.turn("refuse")
    leave(other, way.url, tmp_path, 150)
    way.turn("pass")
    make(way.url)
    wait_until(lambda: other.history() == some(150))


def test_what_another_organization_has_left_stays_where_it_is(
    run: Run, make: Make, platform: Platform, way: Way, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Run()
    way.turn("refuse")
    leave(stranger, way.url, tmp_path, 5)
    way.turn("pass")
    reporter = make(way.url)
    tell(reporter, some(5))
    assert reporter.flush(SECONDS)
    wait_until(lambda: "stays in" in caplog.text)
    assert stranger.history() == []
    theirs = Reporter(FlowPlatform(way.url, stranger.token), stranger.id, spool=tmp_path)
    wait_until(lambda: stranger.history() == some(5))
    theirs.close()


def test_the_spool_of_a_living_process_is_left_alone(run: Run, make: Make, way: Way, tmp_path: Path) -> None:
    way.turn("refuse")
    first, second = make(way.url), make(way.url)
    tell(first, some(3))
    tell(second, some(3, 3))
    assert len(spools(tmp_path)) == 2
    way.turn("pass")
    assert first.flush(SECONDS)
    assert second.flush(SECONDS)
    assert sorted(run.history()) == sorted(some(6))


def test_a_closed_reporter_goes_on_when_it_is_told_more(run: Run, make: Make) -> None:
    reporter = make()
    for number in range(3):
        reporter.status("extract", f"step {number}")
        assert reporter.close(SECONDS)
    assert [status for _, status in run.history()] == ["step 0", "step 1", "step 2"]


def test_a_closed_reporter_is_overtaken_by_no_later_one(run: Run, make: Make, way: Way) -> None:
    way.turn("refuse")
    first = make(way.url)
    tell(first, some(250))
    assert not first.close(0.1)
    second = make(way.url)
    tell(second, some(10, 250))
    way.turn("pass")
    assert second.flush(SECONDS)
    assert run.history() == some(260)


def test_closing_does_not_wait_for_a_platform_that_is_away(run: Run, make: Make, way: Way) -> None:
    way.turn("refuse")
    reporter = make(way.url)
    tell(reporter, some(3))
    begin = time.monotonic()
    assert not reporter.close(SECONDS)
    assert time.monotonic() - begin < SECONDS / 2


def test_a_full_spool_keeps_the_newest_word_about_each_task(
    run: Run, make: Make, way: Way, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    way.turn("refuse")
    reporter = make(way.url, spool_bytes=20_000)
    told = some(3000)
    tell(reporter, told)
    assert sum(file.stat().st_size for spool in spools(tmp_path) for file in spool.iterdir()) < 21_000
    way.turn("pass")
    assert reporter.flush(SECONDS)
    history = run.history()
    kept = len(history) - 2
    assert 100 < kept < 2000
    assert history == [*told[:kept], *told[-2:]]
    wait_until(lambda: f"no room for {3000 - len(history)} reports" in caplog.text)


def test_a_full_memory_keeps_the_newest_word_about_each_task(run: Run, make: Make, way: Way) -> None:
    way.turn("refuse")
    reporter = make(way.url, spool=None, memory_bytes=20_000)
    told = some(3000)
    tell(reporter, told)
    way.turn("pass")
    assert reporter.flush(SECONDS)
    history = run.history()
    kept = len(history) - 2
    assert 100 < kept < 2000
    assert history == [*told[:kept], *told[-2:]]


def test_what_is_kept_beside_a_full_memory_has_no_documents(
    run: Run, make: Make, way: Way, caplog: pytest.LogCaptureFixture
) -> None:
    way.turn("refuse")
    reporter = make(way.url, spool=None, memory_bytes=20_000)
    for number in range(30):
        says = {"processing_status": "completed", "completed_at": "2026-11-22T10:00:00Z", "output": "x" * 100_000}
        reporter.attempt(f"run {number}", "extract", number=number, **says)
    wait_until(lambda: "30 reports are without" in caplog.text)
    way.turn("pass")
    assert reporter.flush(SECONDS)
    attempts = run.attempts("extract")
    assert [(attempt.processing_status, attempt.output) for attempt in attempts] == [("completed", None)] * 30


def test_without_a_place_for_a_spool_it_works_from_memory(
    run: Run, make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    reporter = make(spool=tmp_path / "file")
    assert "there is no spool" in caplog.text
    tell(reporter, some(150))
    assert reporter.flush(SECONDS)
    assert run.history() == some(150)


def test_the_loss_of_the_spool_costs_nothing_that_was_told(run: Run, make: Make, way: Way, tmp_path: Path) -> None:
    way.turn("refuse")
    reporter = make(way.url)
    tell(reporter, some(150))
    shutil.rmtree(tmp_path)
    tell(reporter, some(150, 150))
    way.turn("pass")
    assert reporter.flush(SECONDS)
    assert run.history() == some(300)


def test_a_signal_handler_may_report_in_the_middle_of_a_report(run: Run, make: Make) -> None:
    reporter = make()
    handled = itertools.count()
    before = signal.signal(signal.SIGALRM, lambda *_: reporter.status("classify", f"{next(handled)}"))
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    try:
        for number in range(10_000):
            reporter.status("extract", f"{number}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert reporter.flush(SECONDS)
    assert run.history("extract") == [("extract", f"{number}") for number in range(10_000)]
    # A handler may be interrupted by the next one before it reports.
    assert sorted(run.history("classify")) == sorted(("classify", f"{number}") for number in range(next(handled)))


def test_the_status_of_the_execution_is_reported_in_order_with_those_of_its_tasks(run: Run, make: Make) -> None:
    reporter = make()
    reporter.execution_status("running")
    tell(reporter, some(3))
    reporter.execution_status("completed")
    assert reporter.flush(SECONDS)
    assert run.history() == some(3)
    run.execution.refresh_from_db()
    assert run.execution.status == "completed"


def test_an_id_that_is_none_is_refused_at_once(make: Make) -> None:
    with pytest.raises(ValueError, match="badly formed"):
        make(execution_id="invoices")
