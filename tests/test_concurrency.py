"""Many processes report the same tasks at the same moment: state, history and events must tell the same."""

import multiprocessing
from uuid import uuid4

import pytest

from executions.models import TaskOutput, TaskStatus
from notifications.models import Event
from notifications.relay import number_pending, read_events
from tags.models import TaskTag
from tests import crowd
from tests.builders import make_execution, make_flow, make_organization

PROCESSES = 6


@pytest.mark.usefixtures("committed")
def test_state_newest_history_row_and_last_event_of_every_task_agree() -> None:
    execution = make_execution(make_flow(make_organization(f"crowd-{uuid4().hex}"), *crowd.TASKS))
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        pool.starmap(crowd.report, [(seed, execution.pk) for seed in range(PROCESSES)], chunksize=1)

    rows = TaskStatus.objects.filter(flow_execution=execution).order_by("position")
    assert rows.count() == PROCESSES * crowd.ROWS
    newest = {row.task_name: row.status for row in rows}
    state = dict(TaskOutput.objects.filter(flow_execution=execution).values_list("task_name", "processing_status"))
    list(number_pending(execution.flow_id))
    last = {
        status["task_name"]: status["status"]
        for event in Event.objects.filter(flow_id=execution.flow_id, type="task_status.added").order_by("offset")
        for status in event.data["statuses"]
    }
    assert newest == state == last
    assert set(state) == set(crowd.TASKS)


@pytest.mark.usefixtures("committed")
def test_several_relays_of_one_flow_number_every_event_once_without_gaps() -> None:
    execution = make_execution(make_flow(make_organization(f"relay-{uuid4().hex}"), *crowd.TASKS))
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        reports = pool.starmap_async(crowd.report, [(seed, execution.pk) for seed in range(2)], chunksize=1)
        numbered = 0
        while not reports.ready():
            numbered += sum(pool.map(crowd.relay, [execution.flow_id] * 4, chunksize=1))
        reports.get()
    numbered += crowd.relay(execution.flow_id)
    offsets = [row[0] for row in read_events(execution.flow_id, since=0, limit=10_000)]
    assert offsets == list(range(1, 2 * crowd.BATCHES + 2))
    assert numbered == len(offsets)


@pytest.mark.usefixtures("committed")
def test_the_same_tag_batches_at_once_leave_one_live_row_each_and_never_a_deadlock() -> None:
    flow = make_flow(make_organization(f"taggers-{uuid4().hex}"), *crowd.TASKS)
    executions = [make_execution(flow).pk for _ in range(5)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        outcomes = pool.starmap(crowd.tag, [(seed, executions) for seed in range(4)], chunksize=1)
    tags = TaskTag.objects.filter(flow_execution__in=executions)
    assert tags.count() == tags.live().count() == 15 * 5 * 4
    flat = [outcome for process in outcomes for outcome in process]
    assert (flat.count("added"), flat.count("already_exists")) == (15 * 20, 3 * 15 * 20)
