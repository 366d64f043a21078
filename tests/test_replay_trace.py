"""What replay makes of a trace without a server: reading WfFormat, the schedule, and the comparison at the end."""

import functools
import json
import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from flowplatform_client import StatusUpdate
from flowplatform_client.replay.comparison import compare
from flowplatform_client.replay.schedule import Schedule, critical_path_seconds, in_batches, speed_for
from flowplatform_client.replay.wfformat import Trace, TraceError, TraceTask, read_trace
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.traces import DIAMOND, REAL_TRACES, RUNTIMES, make_document, needs, write_trace

# --- reading ------------------------------------------------------------------------------------------------------


def test_a_trace_is_read_with_its_tasks_in_topological_order(tmp_path: Path) -> None:
    document = make_document(dict(reversed(DIAMOND.items())))
    trace = read_trace(write_trace(tmp_path, document))
    assert (trace.name, trace.notes) == ("diamond", ())
    assert trace.tasks[0].id == "top"
    assert trace.tasks[-1] == TraceTask("bottom", "BOTTOM", ("left", "right"), 1.0)


@pytest.mark.parametrize("real_trace", REAL_TRACES, ids=lambda path: path.stem)
def test_the_real_traces_are_read_whole(real_trace: Path) -> None:
    needs(real_trace)
    document = json.loads(real_trace.read_bytes())
    trace = read_trace(real_trace)
    assert (len(trace.tasks), trace.notes) == (len(document["workflow"]["specification"]["tasks"]), ())
    assert sum(task.runtime_seconds for task in trace.tasks) == pytest.approx(
        sum(task["runtimeInSeconds"] for task in document["workflow"]["execution"]["tasks"])
    )


def test_an_edge_counts_whichever_end_names_it(tmp_path: Path) -> None:
    document = make_document()
    for task in document["workflow"]["specification"]["tasks"]:
        task["children"] = [name for name, above in DIAMOND.items() if task["id"] in above]
        del task["parents"]
    assert {task.id: list(task.parents) for task in read_trace(write_trace(tmp_path, document)).tasks} == DIAMOND


def test_what_is_missing_is_assumed_and_told(tmp_path: Path) -> None:
    document = make_document()
    del (
        document["name"],
        document["workflow"]["specification"]["tasks"][0]["name"],
        document["workflow"]["execution"]["tasks"][0]["runtimeInSeconds"],
    )
    document["workflow"]["execution"]["tasks"][1]["id"] = "stranger"
    trace = read_trace(write_trace(tmp_path, document))
    assert (trace.name, trace.tasks[0]) == ("trace", TraceTask("top", "top", (), 0.0))
    assert trace.notes == (
        'tasks without a recorded runtime: 2, such as "top"; played as 0 s.',
        'recorded runtimes without a specified task: 1, such as "stranger"; not played.',
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "trace.json is not JSON: Expecting value: line 1 column 1 (char 0)."),
        (b"\x89PNG\r\n", "trace.json is not JSON: 'utf-8' codec can't decode byte 0x89 in position 0"),
        (b'{"a": "\xff"}', "is not JSON: 'utf-8' codec can't decode byte 0xff in position 7"),
        (b"[" * 100_000, "is not JSON: it is nested too deeply."),
        (b"[]", "is not a WfFormat 1.5 trace: the top level: Input should be an object."),
        (b"{}", "is not a WfFormat 1.5 trace: schemaVersion: Field required."),
    ],
)
def test_a_file_of_another_kind_is_told_apart(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(content)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert sentence in str(caught.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"gone\.json cannot be read: No such file or directory\."):
        read_trace(tmp_path / "gone.json")
    with pytest.raises(TraceError, match="is not a file"):
        read_trace(tmp_path)


@pytest.mark.parametrize(
    ("place", "value", "sentence"),
    [
        ("schemaVersion", "1.4", "schemaVersion: Input should be '1.5'."),
        ("workflow.execution", None, "workflow.execution: Input should be an object."),
        ("workflow.specification.tasks", [], "workflow.specification.tasks: List should have at least 1 item"),
        ("workflow.specification.tasks", [{"id": "x"}] * 10_001, "tasks: List should have at most 10000 items"),
        ("workflow.specification.tasks.2.id", None, "workflow.specification.tasks[2].id: Input should be a valid"),
        (
            "workflow.specification.tasks.2.id",
            "",
            "specification.tasks[2].id: String should have at least 1 character.",
        ),
        ("workflow.specification.tasks.2.id", "x" * 201, "tasks[2].id: String should have at most 200 characters."),
        ("workflow.specification.tasks.2.id", "a\0b", "specification.tasks[2].id: contains a NUL character."),
        ("workflow.specification.tasks.2.parents", "top", "tasks[2].parents: Input should be a valid array."),
        ("workflow.execution.tasks.1.runtimeInSeconds", -1, "tasks[1].runtimeInSeconds: Input should be greater"),
        ("workflow.execution.tasks.1.runtimeInSeconds", math.nan, "tasks[1].runtimeInSeconds: Input should be"),
        ("workflow.execution.tasks.1.runtimeInSeconds", 1e300, "tasks[1].runtimeInSeconds: Input should be less"),
        ("workflow.specification.tasks.3.id", "top", 'workflow.specification.tasks holds the id "top" 2 times'),
        ("workflow.execution.tasks.3.id", "top", 'workflow.execution.tasks holds the id "top" 2 times'),
        ("workflow.specification.tasks.3.parents", ["x"], 'tasks[3].parents of "bottom" names "x", which is no task'),
        ("workflow.specification.tasks.3.children", ["x"], 'tasks[3].children of "bottom" names "x", which is no task'),
        ("workflow.specification.tasks.0.parents", ["top"], 'depend on each other in a circle: "top" -> "top".'),
        ("workflow.specification.tasks.0.parents", ["bottom"], "depend on each other in a circle: "),
    ],
)
def test_a_broken_trace_is_refused_with_the_place(tmp_path: Path, place: str, value: object, sentence: str) -> None:
    document: Any = make_document()
    *steps, last = (int(step) if step.isdigit() else step for step in place.split("."))
    functools.reduce(operator.getitem, steps, document)[last] = value
    with pytest.raises(TraceError) as caught:
        read_trace(write_trace(tmp_path, document))
    assert sentence in str(caught.value)
    assert str(caught.value).endswith(".")


# --- the schedule -------------------------------------------------------------------------------------------------


def make_trace(parents: dict[str, list[str]] = DIAMOND, runtimes: dict[str, float] = RUNTIMES) -> Trace:
    return Trace("t", tuple(TraceTask(name, name, tuple(above), runtimes[name]) for name, above in parents.items()))


def test_a_task_is_queued_when_its_parents_are_done_and_lasts_its_runtime_divided_by_the_speed() -> None:
    schedule = Schedule(make_trace(), speed=2)
    assert [(due.at, *due.update) for due in schedule.updates] == [
        (0.0, "top", "queued"),
        (0.0, "top", "running"),
        (0.5, "top", "completed"),
        (0.5, "left", "queued"),
        (0.5, "left", "running"),
        (0.5, "right", "queued"),
        (0.5, "right", "running"),
        (0.75, "right", "completed"),
        (1.5, "left", "completed"),
        (1.5, "bottom", "queued"),
        (1.5, "bottom", "running"),
        (2.0, "bottom", "completed"),
    ]
    assert schedule.duration_seconds == 2.0


def test_the_default_speed_makes_a_replay_last_twenty_seconds() -> None:
    trace = make_trace()
    assert critical_path_seconds(trace) == 4.0
    assert Schedule(trace, speed_for(trace)).duration_seconds == pytest.approx(20)
    assert speed_for(make_trace({"only": []}, {"only": 0.0})) == 1.0


@st.composite
def traces(draw: st.DrawFn) -> Trace:
    """Draw any trace whose tasks are in topological order; many last no time at all."""
    count = draw(st.integers(1, 12))
    seconds = st.sampled_from([0.0, 0.0, 0.1, 1 / 3, 7.0])
    tasks = []
    for index in range(count):
        above = draw(st.sets(st.integers(0, index - 1))) if index else set()
        tasks.append(TraceTask(f"t{index}", "", tuple(f"t{parent}" for parent in above), draw(seconds)))
    return Trace("any", tuple(tasks))


@settings(max_examples=100, deadline=None)
@given(traces(), st.sampled_from([0.3, 1.0, 49.0, 1e12]))
def test_any_schedule_respects_every_dependency(trace: Trace, speed: float) -> None:
    schedule = Schedule(trace, speed)
    history = [due.update for due in schedule.updates]
    assert [due.at for due in schedule.updates] == sorted(due.at for due in schedule.updates)
    assert list(compare(trace, dict(history), history)) == []
    assert schedule.updates[-1].at == pytest.approx(schedule.duration_seconds)


def test_batches_hold_everything_in_order() -> None:
    updates = [StatusUpdate(str(number), "queued") for number in range(250)]
    batches = list(in_batches(updates, 100))
    assert [len(batch) for batch in batches] == [100, 100, 50]
    assert [update for batch in batches for update in batch] == updates


# --- the comparison -----------------------------------------------------------------------------------------------


def played(*names: str) -> list[StatusUpdate]:
    return [StatusUpdate(name, status) for name in names for status in ("queued", "running", "completed")]


@pytest.mark.parametrize(
    ("history", "difference"),
    [
        ([*played("top"), *played("bottom")[:2]], '"bottom" is running, not completed'),
        (played("top"), '"bottom" is without a state, not completed'),
        ([*played("top"), *played("bottom")[1:]], 'the history of "bottom" is running, completed, not queued, running'),
        (played("bottom", "top"), '"bottom" was queued before its parent "top" was completed'),
        (played("top", "bottom", "other"), '"other" is no task of the trace'),
    ],
)
def test_every_difference_from_the_trace_is_named(history: Sequence[StatusUpdate], difference: str) -> None:
    trace = make_trace({"top": [], "bottom": ["top"]})
    assert next(compare(trace, dict(history), history)).startswith(difference)
