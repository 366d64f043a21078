"""What the integrations share: runs of other tools as executions, on the real server."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from flowplatform_client import FlowPlatform, NotFoundError
from flowplatform_client.integrations import runs as module
from flowplatform_client.integrations.runs import Runs

from executions.models import Flow, FlowExecution, TaskExecution
from flowplatform.accounts.models import Organization
from tests.builders import definition
from tests.stack import wait_until

Make = Callable[[], Runs]


@pytest.fixture
def make(client: FlowPlatform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make what a process has, as often as there are processes."""
    monkeypatch.setenv("FLOWPLATFORM_SPOOL", str(tmp_path))
    made: list[Runs] = []

    def _make() -> Runs:
        made.append(Runs(client, patience_seconds=20))
        return made[-1]

    yield _make
    for runs in made:
        runs.close(5)


def test_every_run_has_the_version_it_was_begun_with_whoever_defines_others_meanwhile(make: Make) -> None:
    shapes = [definition("extract"), definition("extract", "classify")]
    make().begin("Invoices", shapes[0], {})
    versions: list[tuple[int, list[str]]] = []

    def begin(runs: Runs, place: int) -> None:
        for number in range(5):
            begun = runs.begin("Invoices", shapes[(place + number) % 2], {"tasks": (place + number) % 2 + 1})
            if begun is not None:  # the others may have been faster each time
                versions.append((begun.execution.input["tasks"], begun.flow.definition["tasks"]))

    threads = [threading.Thread(target=begin, args=(make(), place)) for place in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(versions) >= 10
    assert all(count == len(tasks) for count, tasks in versions)


def test_the_first_runs_of_a_name_make_one_flow_whoever_begins_them_at_the_same_moment(
    make: Make, organization: Organization
) -> None:
    shapes = [definition("extract"), definition("extract", "classify")]
    start = threading.Barrier(4)
    begun: list[object] = []

    def begin(runs: Runs, shape: int) -> None:
        start.wait(10)
        begun.append(runs.begin("Invoices", shapes[shape], {}))

    threads = [threading.Thread(target=begin, args=(make(), number % 2)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Flow.objects.filter(organization=organization).count() == 1
    assert any(begun)


def test_processes_with_the_same_key_have_the_same_execution(make: Make) -> None:
    begun = [make().queue("Invoices", definition("extract"), {"run": 1}, key="monday") for _ in range(3)]
    assert len({one.execution.id for one in begun if one}) == 1
    assert make().queue("Invoices", definition("extract"), {"run": 2}, key="tuesday") not in begun


def test_a_run_is_found_again_when_its_key_is_forgotten(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    since = datetime.now(UTC)
    first = make().queue("Invoices", definition("extract"), {"run": 1}, key="monday", since=since)
    make().queue("Invoices", definition("extract"), {"run": 2}, key="tuesday", since=since)
    assert first is not None
    monkeypatch.setattr(module, "_KEYS_LAST", timedelta(0))
    again = make().queue("Invoices", definition("extract"), {"run": 1}, key="forgotten", since=since)
    assert again is not None
    assert again.execution.id == first.execution.id


def test_a_flow_without_a_definition_has_to_be_there(make: Make) -> None:
    assert make().queue("Invoices", None, {}) is None
    make().begin("Invoices", definition("extract"), {})
    assert make().queue("Invoices", None, {}) is not None


def test_one_process_reports_many_executions(make: Make, organization: Organization) -> None:
    runs = make()
    begun = [runs.begin("Invoices", definition("extract"), {}) for _ in range(3)]
    ids = [one.execution.id for one in begun if one]
    for number, execution_id in enumerate(ids):
        runs.attempt(execution_id, f"run {number}", "extract", 0, "running")
        runs.attempt(execution_id, f"run {number}", "extract", 0, "completed", output=number)
        runs.status(execution_id, "completed")
    assert runs.flush(10)
    executions = FlowExecution.objects.filter(organization=organization)
    assert set(executions.values_list("status", flat=True)) == {"completed"}
    outputs = TaskExecution.objects.filter(flow_execution__in=ids).order_by("flow_execution__created_at")
    assert [*outputs.values_list("processing_status", "output")] == [("completed", number) for number in range(3)]


def test_an_execution_that_is_deleted_meanwhile_holds_nobody_up(make: Make, client: FlowPlatform) -> None:
    runs = make()
    gone, there = (runs.begin("Invoices", definition("extract"), {}) for _ in range(2))
    assert gone is not None
    assert there is not None
    client.executions.delete(gone.execution.id)
    for one in (gone, there):
        runs.attempt(one.execution.id, "a run", "extract", 0, "running")
        runs.followup.began(one.execution.id, 1)
    wait_until(lambda: client.executions.get(there.execution.id).status == "running")
    with pytest.raises(NotFoundError):
        client.executions.get(gone.execution.id)
