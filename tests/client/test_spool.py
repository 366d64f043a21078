"""The spool by itself: whoever reads it, after whatever end of its process, finds the same batches and keys."""

import multiprocessing
import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flowplatform_client.reporter.queues import Batch, QueueFullError
from flowplatform_client.reporter.records import (
    BATCH_SIZE,
    AttemptRecord,
    Record,
    StatusRecord,
    attempt_line,
    line_of,
    record_of,
    status_line,
)
from flowplatform_client.reporter.spool import Spool, is_ended
from hypothesis import given, settings
from hypothesis import strategies as st

EXECUTION = "01a20400-0000-7000-8000-000000000000"


class Once:
    """A server that writes what comes under a new key, and nothing under one that it knows."""

    def __init__(self) -> None:
        self.history: list[Record] = []
        self._known: dict[str, tuple[Record, ...]] = {}

    def take(self, batch: Batch) -> None:
        assert 1 <= len(batch.records) <= BATCH_SIZE
        assert len(batch.records) == 1 or all(isinstance(record, StatusRecord) for record in batch.records)
        assert len(batch.key) <= 255
        if batch.key not in self._known:
            self._known[batch.key] = batch.records
            self.history += batch.records
        assert self._known[batch.key] == batch.records, "a key was used with another body"


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def create(where: Path, segment_bytes: int = 300) -> Spool:
    spool = Spool.create(where, EXECUTION, token_mark="mine", segment_bytes=segment_bytes)
    spool.room = 1_000_000
    return spool


def adopt(where: Path) -> Spool:
    [path] = where.iterdir()
    spool = Spool.adopt(path)
    assert spool is not None
    return spool


def drain(spool: Spool, server: Once) -> None:
    while batch := spool.peek():
        server.take(batch)
        spool.settle(batch)


STATUSES = st.builds(StatusRecord, st.text(max_size=5).filter(lambda text: "\ud800" not in text), st.just("running"))
ATTEMPTS = st.builds(AttemptRecord, st.just("a"), st.text("ab", max_size=3), st.none(), st.just({"output": [1, "\n"]}))
STEPS = st.one_of(
    st.lists(STATUSES, min_size=1, max_size=130),
    ATTEMPTS.map(lambda attempt: [attempt]),
    st.sampled_from(["seal", "tidy", "send", "send without an answer", "remember how far it is settled"]),
)
ENDS = st.sampled_from(["killed", "killed while it wrote", "without knowing how far it is settled", "long ago settled"])


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, max_size=25), ENDS)
def test_everything_arrives_once_and_in_order_however_the_process_ended(
    steps: list[str | list[Record]], end: str
) -> None:
    server, told = Once(), []
    with folder() as where:
        spool = create(where)
        settled = spool.path / "settled"
        remembered = b""
        for step in steps:
            match step:
                case "seal":
                    spool.seal()
                case "tidy":
                    spool.tidy()
                case "send" | "send without an answer":
                    if batch := spool.peek():
                        server.take(batch)
                        if step == "send":
                            spool.settle(batch)
                case "remember how far it is settled":
                    remembered = settled.read_bytes()
                case records:
                    told += records
                    for record in records:
                        spool.append(line_of(record))
        spool.close()
        if end == "killed while it wrote":
            last = max(spool.path.glob("*.lines"), key=lambda path: int(path.stem))
            with last.open("ab") as file:
                file.write(status_line("extract", "running")[:-1])
        elif end == "without knowing how far it is settled":
            settled.unlink(missing_ok=True)
        elif end == "long ago settled" and _is_there(spool.path, remembered):
            settled.write_bytes(remembered)
        for _ in range(2):  # the one who takes it over is killed too
            again = adopt(where)
            if batch := again.peek():
                server.take(batch)
            again.close()
        last_one = adopt(where)
        drain(last_one, server)
        assert not last_one.peek()
        last_one.remove()
        assert [*where.iterdir()] == []
    assert server.history == told


def _is_there(path: Path, settled: bytes) -> bool:
    """Say whether the segment that was the first one is still there."""
    return not settled or (path / f"{int(settled.split()[0])}.lines").exists()


@settings(max_examples=200, deadline=None)
@given(st.one_of(STATUSES, ATTEMPTS))
def test_a_line_says_what_was_told(record: Record) -> None:
    line = line_of(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert record_of(line[:-1]) == record
    assert record_of(line[:-2]) is None  # torn


def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    assert record_of(status_line("a\ud800b", "\udfff")) == ("a?b", "?")
    attempt = record_of(attempt_line(AttemptRecord("a", "b", None, {"output": ["\ud800"]})))
    assert isinstance(attempt, AttemptRecord)
    assert attempt.says == {"output": ["?"]}


def test_a_spool_belongs_to_one_at_a_time() -> None:
    with folder() as where:
        first = create(where)
        assert Spool.adopt(first.path) is None
        assert not is_ended(first.path)
        first.close()
        second = adopt(where)
        assert Spool.adopt(first.path) is None
        assert is_ended(first.path)  # nothing is added to what was adopted
        assert second.token_mark == "mine"
        second.close()


def test_numbers_of_attempts_outlive_the_process() -> None:
    with folder() as where:
        spool = create(where)
        spool.remember("a", 3)
        spool.remember("b", 0)
        spool.forget("b")
        spool.close()
        again = adopt(where)
        assert again.number_of("a") == 3
        again.forget("a")
        again.close()


def test_what_fits_no_more_is_refused_and_leaves_nothing() -> None:
    with folder() as where:
        spool = create(where)
        spool.room = len(status_line("extract", "running"))
        spool.append(status_line("extract", "running"))
        with pytest.raises(QueueFullError):
            spool.append(status_line("extract", "completed"))
        spool.close()
        server = Once()
        drain(adopt(where), server)
        assert server.history == [("extract", "running")]


@pytest.mark.parametrize("room", [7, len(status_line("task 20", "running")) - 1], ids=["in the middle", "at the end"])
def test_what_a_full_disk_has_torn_is_left_out_and_the_rest_goes_on(room: int) -> None:
    with folder() as where:
        process = multiprocessing.get_context("spawn").Process(target=_fill_the_disk, args=(where, room))
        process.start()
        process.join(30)
        assert process.exitcode == 0
        server = Once()
        spool = adopt(where)
        sealed = spool.peek()
        assert sealed is not None
        assert len(sealed.records) == 20, "what was sent as a batch while the disk was full stays one"
        drain(spool, server)
        names = [record.task for record in server.history if isinstance(record, StatusRecord)]
        assert names == [*(f"task {number}" for number in range(20)), "after"]


def test_documents_that_are_nested_too_deeply_to_be_read_cost_themselves_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with folder() as where:
        spool = create(where, segment_bytes=1_000_000)
        poison = b'{"run":"a","task":"extract","number":0,"says":{"output":%s}}\n' % (b"[" * 100_000 + b"]" * 100_000)
        for line in (status_line("extract", "running"), poison, status_line("extract", "completed")):
            spool.append(line)
        spool.seal()
        server = Once()
        drain(spool, server)
        spool.remove()
    assert [record.status for record in server.history if isinstance(record, StatusRecord)] == ["running", "completed"]
    assert "nested too deeply" in caplog.text


def _fill_the_disk(where: Path, room: int) -> None:
    """Write until the kernel takes no more, in the middle of a line; then there is room again."""
    spool = create(where, segment_bytes=1_000_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    whole = sum(len(status_line(f"task {number}", "running")) for number in range(20))
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole + room, limits[1]))
    number = 0
    while True:
        try:
            spool.append(status_line(f"task {number}", "running"))
        except OSError:
            break
        number += 1
    with pytest.raises(OSError, match="too large"):
        spool.append(status_line("meanwhile", "running"))
    spool.seal()  # cannot be written either
    assert spool.peek() is not None
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    spool.append(status_line("after", "running"))
    os._exit(0)
