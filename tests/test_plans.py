"""Lists read what they show by an index, already in order, however much there is besides."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from executions.models import Flow, FlowExecution
from flowplatform.accounts.models import Organization
from flowplatform.pages import run_list
from flowplatform.pages.run_filter import RunFilter
from flowplatform.pages.run_list import Position, run_page
from tests.builders import Api, make_execution, make_flow, make_member, make_token

EXECUTIONS, WITH_TASKS, TASKS, ROUNDS = 5_000, 200, 60, 500

# A flow with many runs, some of them with tasks that say all they can; one task with many attempts and reports.
FILL = """
    INSERT INTO executions_flowexecution
        (id, organization_id, flow_id, flow_version, run_number, status, input, created_at, updated_at, modified_by)
    SELECT gen_random_uuid(), organization_id, flow_id, 1, run_number + i, 'completed', '{{}}',
           created_at - make_interval(mins => i), updated_at - make_interval(mins => i), 'fill'
    FROM executions_flowexecution CROSS JOIN generate_series(1, {executions}) AS i;
    CREATE TEMPORARY TABLE with_tasks ON COMMIT DROP AS
    SELECT * FROM executions_flowexecution ORDER BY created_at DESC LIMIT {with_tasks};
    INSERT INTO executions_taskstatus (uid, organization_id, flow_execution_id, task_name, status, created_at)
    SELECT gen_random_uuid(), organization_id, id, 'task-' || i, 'running', created_at
    FROM with_tasks, generate_series(1, {tasks}) AS i;
    INSERT INTO executions_taskoutput
        (id, organization_id, flow_execution_id, task_name, created_at, updated_at, modified_by)
    SELECT gen_random_uuid(), organization_id, id, 'task-' || i, created_at, updated_at, 'fill'
    FROM with_tasks, generate_series(1, {tasks}) AS i;
    INSERT INTO executions_taskexecution
        (id, organization_id, flow_execution_id, task_name, task_execution_idx, processing_status, edited_status,
         stale_status, created_at, updated_at, modified_by)
    SELECT gen_random_uuid(), organization_id, id, 'task-' || i, 0, 'completed', 'not_edited', 'consistent',
           created_at, updated_at, 'fill'
    FROM with_tasks, generate_series(1, {tasks}) AS i;
    INSERT INTO tags_tasktag
        (id, organization_id, flow_execution_id, task_name, tag, tag_type, metadata_digest, status, created_at,
         created_by, updated_at, modified_by)
    SELECT gen_random_uuid(), organization_id, id, 'task-' || i, 'approved', 'review', '', 'active', created_at, 'fill',
           updated_at, 'fill'
    FROM with_tasks, generate_series(1, {tasks}) AS i;
    INSERT INTO executions_taskstatus (uid, organization_id, flow_execution_id, task_name, status, created_at)
    SELECT gen_random_uuid(), organization_id, id, 'task-7', 'running', created_at
    FROM generate_series(1, {rounds}), (SELECT * FROM with_tasks ORDER BY created_at DESC LIMIT 1) AS newest;
    INSERT INTO executions_taskexecution
        (id, organization_id, flow_execution_id, task_name, task_execution_idx, processing_status, edited_status,
         stale_status, created_at, updated_at, modified_by)
    SELECT gen_random_uuid(), organization_id, id, 'task-7', idx, 'completed', 'not_edited', 'consistent',
           created_at, updated_at, 'fill'
    FROM generate_series(1, {rounds}) AS idx, (SELECT * FROM with_tasks ORDER BY created_at DESC LIMIT 1) AS newest;
    ANALYZE executions_flowexecution, executions_taskstatus, executions_taskoutput, executions_taskexecution,
            tags_tasktag
"""


@pytest.fixture
def execution(as_owner: None, organization: Organization) -> FlowExecution:
    execution = make_execution(make_flow(organization, *(f"task-{i}" for i in range(1, TASKS + 1))))
    with connection.cursor() as cursor:
        fill = FILL.format(executions=EXECUTIONS, with_tasks=WITH_TASKS, tasks=TASKS, rounds=ROUNDS)
        for statement in fill.split(";"):
            cursor.execute(statement)
    return execution


@contextmanager
def plans() -> Iterator[list[dict[str, Any]]]:
    """Collect the plan of every query that runs meanwhile."""
    found: list[dict[str, Any]] = []

    def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if sql.lstrip().startswith(("SELECT", "WITH")):
            execute(f"EXPLAIN (FORMAT JSON) {sql}", params, many, context)
            found.append(context["cursor"].fetchone()[0][0]["Plan"])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield found


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from nodes(part)


def table_of(node: dict[str, Any]) -> str:
    """Return the table that a node reads, without the month of its partition; "" for other nodes."""
    return re.sub(r"_(\d{4}_\d\d|default)$", "", node.get("Relation Name", ""))


def is_whole(node: dict[str, Any]) -> bool:
    """Say whether a node reads a table from its beginning to its end. A month of a page or two may be read so."""
    return node["Node Type"] == "Seq Scan" and node["Total Cost"] > SMALL


SMALL = 25.0  # what the planner expects a few pages to cost
LARGE = ("taskstatus", "taskoutput", "taskexecution", "tasktag", "flowexecution")


@pytest.mark.parametrize(
    ("path", "table", "may_sort"),  # what is a few rows, or shown whole, may be sorted
    [
        ("/api/flow-executions/{execution}/task-status?", "taskstatus", False),
        ("/api/flow-executions/{execution}/task-status?task_name=task-7&", "taskstatus", False),
        ("/api/task-outputs?flow_execution_id={execution}&", "taskoutput", False),
        ("/api/task-outputs?flow_execution_id={execution}&task_name=task-7&", "taskoutput", True),
        ("/api/task-executions?flow_execution_id={execution}&", "taskexecution", False),
        ("/api/task-executions?flow_execution_id={execution}&task_name=task-7&", "taskexecution", False),
        ("/api/task-tags?flow_execution_id={execution}", "tasktag", True),
        ("/api/flow-executions?flow_id={flow}", "flowexecution", False),
        ("/api/flow-executions?flow_id={flow}&sort_field=updated_at&sort_direction=asc", "flowexecution", False),
        ("/api/flow-executions?flow_id={flow}&page=9", "flowexecution", False),
    ],
)
def test_a_list_is_read_in_order_from_an_index(
    execution: FlowExecution, organization: Organization, path: str, table: str, may_sort: bool
) -> None:
    api = Api(make_token(organization))
    address = path.format(execution=execution.pk, flow=execution.flow_id)
    if address.endswith(("?", "&")):
        address += "limit=20"
        first = api.get(address).json()  # type: ignore[attr-defined]
        address += f"&cursor={first['next_cursor']}" if first["next_cursor"] else ""
    with plans() as found:
        assert api.get(address).status_code == 200
    lists = [plan for plan in found if any(table_of(node) == f"executions_{table}" for node in nodes(plan))]
    lists += [plan for plan in found if any(table_of(node) == f"tags_{table}" for node in nodes(plan))]
    assert lists
    for plan in found:
        scans = [table_of(node) for node in nodes(plan) if is_whole(node)]
        assert not [name for name in scans if name.endswith(LARGE)], plan
    if not may_sort:
        assert not [node for node in nodes(lists[-1]) if "Sort" in node["Node Type"]], lists[-1]


PAGES = (
    "/",
    "/flows/{flow}/",
    "/flows/{flow}/?status=failed&status=running",
    "/flows/{flow}/?tag=review:approved&from=2020-01-01&to=2100-01-01",
    "/flows/{flow}/?cursor={older}",
    "/flows/{flow}/?cursor={newer}",
    "/flows/{flow}/export.csv",
    "/executions/{execution}/tasks.csv",
    "/executions/{execution}/history.csv",
    "/executions/{execution}/tags.csv",
)


def test_pages_and_exports_read_no_table_as_a_whole(
    execution: FlowExecution, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_list, "_CHUNK", 100)  # a small part of the runs here, as it is where there are many
    flow = execution.flow
    older, newer = positions(flow)
    browser = Client()
    browser.force_login(make_member(organization))
    for page in PAGES:
        ids = {"flow": flow.pk, "execution": execution.pk}
        address = page.format(**ids, older=older.cursor(flow), newer=newer.cursor(flow))
        with plans() as found:
            answer: Any = browser.get(address)
            assert answer.status_code == (302 if "newer" in page else 200), page
            b"".join(answer.streaming_content if answer.streaming else [])
        assert found
        for plan in found:
            scans = [node for node in nodes(plan) if is_whole(node) and table_of(node).endswith(LARGE)]
            assert not scans, (page, plan)


def positions(flow: Flow) -> tuple[Position, Position]:
    """Return the end of the first page of runs, and the beginning of the second one."""
    first = run_page(flow, RunFilter(), None)
    assert first
    assert first.older
    second = run_page(flow, RunFilter(), first.older)
    assert second
    assert second.newer
    return first.older, second.newer


def test_a_page_of_runs_is_read_in_order_from_an_index(execution: FlowExecution) -> None:
    for position in positions(execution.flow):
        with plans() as found:
            run_page(execution.flow, RunFilter(), position)
        (limit,) = (node for plan in found for node in nodes(plan) if node.get("Subplan Name") == "CTE candidate")
        (scan,) = (plan for plan in limit["Plans"] if plan["Parent Relationship"] != "InitPlan")
        assert (limit["Node Type"], scan["Node Type"]) == ("Limit", "Index Scan")  # in order, and without a beginning
        assert scan["Index Name"] == "flow_execution_by_creation"
        assert "ROW(created_at, id)" in scan["Index Cond"]
