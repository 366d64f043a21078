"""Many processes report the same tasks at the same moment: state, history and events must tell the same."""

import multiprocessing
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import orjson
import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from executions.models import Flow, FlowExecution, TaskExecution, TaskOutput, TaskStatus
from executions.schemas import TaskStatusUpdate
from executions.serializers import task_execution_answer
from executions.task_statuses import record_task_statuses
from flowplatform.accounts.actors import Actor
from flowplatform.encoding import encode
from notifications.models import Event
from notifications.relay import number_pending, read_events
from tags.models import TaskTag
from tests import crowd
from tests.builders import make_actor, make_execution, make_flow, make_flow_of, make_organization

PROCESSES = 6


@pytest.mark.usefixtures("committed")
def test_state_newest_history_row_and_last_event_of_every_task_agree() -> None:
    execution = make_execution(make_flow(make_organization(f"crowd-{uuid4().hex}"), *crowd.TASKS))
    with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
        pool.starmap(crowd.report, [(seed, execution.pk) for seed in range(PROCESSES)], chunksize=1)

    check_agreement(execution, rows=PROCESSES * crowd.ROWS)
    assert TaskOutput.objects.filter(flow_execution=execution).count() == len(crowd.TASKS)


def check_agreement(execution: FlowExecution, *, rows: int) -> None:
    """Check that newest history row, derived state and last event of every task say the same."""
    history = TaskStatus.objects.filter(flow_execution=execution).order_by("position")
    assert history.count() == rows
    newest = {row.task_name: row.status for row in history}
    state = dict(TaskOutput.objects.filter(flow_execution=execution).values_list("task_name", "processing_status"))
    list(number_pending([execution.flow_id]))
    last = {
        status["task_name"]: status["status"]
        for event in Event.objects.filter(flow_execution_id=execution.pk, type="task_status.added").order_by("offset")
        for status in event.data["statuses"]
    }
    assert newest == state == last


Batch = list[tuple[str, str]]
BATCHES = st.lists(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["queued", "running", "done"])), min_size=1, max_size=8
    ),
    min_size=2,
    max_size=12,
)
REPORTERS = 4


@pytest.fixture
def flow_and_actor(committed: None) -> tuple[Flow, Actor]:
    organization = make_organization(f"shuffle-{uuid4().hex}")
    return make_flow(organization, *"abcd"), make_actor(organization)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=BATCHES, chance=st.randoms(use_true_random=False))
def test_any_shuffling_of_concurrent_batches_keeps_the_derived_state_at_the_newest_row(
    flow_and_actor: tuple[Flow, Actor], batches: list[Batch], chance: random.Random
) -> None:
    flow, actor = flow_and_actor
    execution = make_execution(flow)
    chance.shuffle(batches)
    together = Barrier(REPORTERS)

    def report(own: Sequence[Batch]) -> None:
        together.wait()
        for batch in own:
            updates = [TaskStatusUpdate(task_name=name, status=status) for name, status in batch]
            record_task_statuses(actor=actor, execution_id=execution.pk, updates=updates)
        connection.close()  # of this thread

    with ThreadPoolExecutor(REPORTERS) as threads:
        list(threads.map(report, [batches[first::REPORTERS] for first in range(REPORTERS)]))
    check_agreement(execution, rows=sum(map(len, batches)))


@pytest.mark.usefixtures("committed")
def test_outputs_follow_the_newest_attempts_while_others_report_edit_and_run_again() -> None:
    chain = {name: crowd.TASKS[max(0, index - 2) : index] for index, name in enumerate(crowd.TASKS)}
    execution = make_execution(make_flow_of(make_organization(f"editors-{uuid4().hex}"), **chain))
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        late = pool.starmap(crowd.attempt_and_edit, [(seed, execution.pk) for seed in range(4)], chunksize=1)
    assert sum(late) < 4 * crowd.BATCHES / 4  # not every edit came too late

    attempts = TaskExecution.objects.filter(flow_execution=execution).order_by("task_execution_idx")
    newest = {attempt.task_name: attempt for attempt in attempts}
    history = dict(
        TaskStatus.objects.filter(flow_execution=execution).order_by("position").values_list("task_name", "status")
    )
    outputs = TaskOutput.objects.filter(flow_execution=execution)
    assert set(newest) == {output.task_name for output in outputs} == set(crowd.TASKS)
    for output in outputs:
        attempt = newest[output.task_name]
        assert output.processing_status == history.get(output.task_name, attempt.processing_status)
        assert (output.edited_status, output.stale_status) == (attempt.edited_status, attempt.stale_status)
        assert (output.error, output.output) == (attempt.error, attempt.output)
    list(number_pending([execution.flow_id]))
    told = Event.objects.filter(flow_execution_id=execution.pk, type="task_execution.updated").order_by("offset")
    last = {event.data["id"]: event.data for event in told}
    assert last == {str(row.pk): orjson.loads(encode(task_execution_answer(row, []))) for row in attempts}


@pytest.mark.usefixtures("committed", "without_platform")  # whose sweep would number what waits for too long
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
