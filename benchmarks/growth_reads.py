"""The reads that have to stay fast: the time of each over HTTP, and how the database finds its rows."""

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection
from django.test import Client as Browser

from benchmarks.platform import Client
from benchmarks.workload import TASKS, Execution
from flowplatform.topology import HOST

READS = {
    "task outputs of an execution": "/api/task-outputs?flow_execution_id={execution}",
    "executions of a flow": "/api/flow-executions?flow_id={flow}&include_run_number=true",
    "history of a task": "/api/flow-executions/{execution}/task-status?task_name={task}",
    "history of an execution": "/api/flow-executions/{execution}/task-status",
}
_LARGE = 10_000  # rows of a table that nobody may read as a whole
_LOOKED_AT = 2_000  # rows that a read may look at in all


class Reader:
    """Reads random executions over one kept connection."""

    def __init__(self, port: int, token: str, executions: Sequence[Execution]) -> None:
        self._client = Client(f"http://{HOST}:{port}", token)
        self._executions = executions
        self._order = random.Random(7)

    def read(self, path: str) -> float:
        """Read once; return the milliseconds."""
        return self._client.send("GET", address(path, self._executions, self._order))[1]


def address(path: str, executions: Sequence[Execution], order: random.Random) -> str:
    """Return the path of a read with a random execution and task."""
    execution = order.choice(executions)
    return path.format(execution=execution.id, flow=execution.flow_id, task=f"task-{order.randrange(TASKS)}")


def plan_of(path: str, token: str, executions: Sequence[Execution]) -> dict[str, Any]:
    """Run a read in this process and return what its queries looked at: rows, indexes, and what is wrong with it.

    Wrong is a whole scan of a large table, a sort of more rows than an answer has, and more than `_LOOKED_AT` rows.
    """
    browser = Browser(headers={"Authorization": f"Bearer {token}", "Host": HOST})
    with _plans() as plans:
        answer = browser.get(address(path, executions, random.Random(7)))
    if answer.status_code != 200:
        raise RuntimeError(f"{path} answered {answer.status_code}")
    found = [node for plan in plans for node in _nodes(plan)]
    looked_at = round(sum(_rows(node) for node in found if "Relation Name" in node))
    sizes = _sizes()
    wrong = [
        *(
            f"reads all of {node['Relation Name']}"
            for node in found
            if node["Node Type"] == "Seq Scan" and sizes.get(node["Relation Name"], 0) > _LARGE
        ),
        *(
            f"sorts {_rows(node):.0f} rows"
            for node in found
            if "Sort" in node["Node Type"] and _rows(node) > _LOOKED_AT
        ),
        *([f"looks at {looked_at} rows"] if looked_at > _LOOKED_AT else []),
    ]
    indexes = sorted({_index(node["Index Name"]) for node in found if "Index Name" in node})
    return {"rows_looked_at": looked_at, "indexes": indexes, "wrong": wrong}


@contextmanager
def _plans() -> Iterator[list[Mapping[str, Any]]]:
    """Collect the plan of every query that runs meanwhile, with what it came to."""
    found: list[Mapping[str, Any]] = []

    def explain(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if sql.lstrip().startswith("SELECT"):
            execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", params, many, context)
            told = context["cursor"].fetchone()[0]
            found.append((json.loads(told) if isinstance(told, str) else told)[0]["Plan"])
        return execute(sql, params, many, context)

    with connection.execute_wrapper(explain):
        yield found


def _nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield plan
    for part in plan.get("Plans", []):
        yield from _nodes(part)


def _rows(node: Mapping[str, Any]) -> float:
    """Return how many rows a node gave and refused."""
    each: float = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    loops: float = node["Actual Loops"]
    return each * loops


def _index(name: str) -> str:
    """Return the index without the month of its partition."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT COALESCE((SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = %s::regclass), %s)",
            [name, name],
        )
        parent: str = cursor.fetchone()[0]
    return parent


def _sizes() -> dict[str, float]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT relname, reltuples FROM pg_class WHERE relkind = 'r'")
        return dict(cursor.fetchall())
