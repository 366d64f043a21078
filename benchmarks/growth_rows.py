"""Rows by SQL: executions of past months whose tasks have reported many times, as the platform would have left them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.utils import timezone

from benchmarks.workload import FLOWS, TASKS, Execution
from executions.history import add_partitions
from flowplatform import tenancy

MONTHS = 12  # that the history reaches back
BYTES_OF_ROW, BYTES_OF_OUTPUT = 300, 450  # on the disk, with indexes: a little more than was seen
_ROWS_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Size:
    """How much there is: executions of `TASKS` tasks, and how often each task has reported."""

    executions: int
    reports: int

    @property
    def outputs(self) -> int:
        """The task outputs."""
        return self.executions * TASKS

    @property
    def rows(self) -> int:
        """The history rows."""
        return self.outputs * self.reports

    @classmethod
    def of(cls, rows: int, outputs: int) -> "Size":
        """Return the size that comes closest; every flow has an execution at least, and every output a history row."""
        executions = max(FLOWS, outputs // TASKS)
        return cls(executions, max(1, rows // (executions * TASKS)))


# Ids tell the time, like those that the platform makes: what was reported together lies together.
_EXECUTIONS = """
    INSERT INTO executions_flowexecution
        (id, organization_id, flow_id, flow_version, run_number, status, input, created_at, updated_at, modified_by)
    SELECT uuidv7(created_at - now()), %(organization)s, flow_id, 1,
           row_number() OVER (PARTITION BY flow_id ORDER BY created_at), 'running', '{}', created_at, created_at,
           'growth'
    FROM (
        SELECT (%(flows)s::uuid[])[1 + number %% cardinality(%(flows)s::uuid[])] AS flow_id,
               now() - make_interval(months => %(months)s) * (number - 0.5) / %(executions)s AS created_at
        FROM generate_series(1, %(executions)s) AS number
    ) AS run
    RETURNING id, flow_id
"""

_RUNS = """
    UPDATE executions_flow AS flow SET runs = (SELECT count(*) FROM executions_flowexecution WHERE flow_id = flow.id)
"""

_OUTPUTS = """
    INSERT INTO executions_taskoutput
        (id, organization_id, flow_execution_id, task_name, processing_status, created_at, updated_at, modified_by)
    SELECT uuidv7(created_at - now()), organization_id, id, 'task-' || task, 'running', created_at, created_at, 'growth'
    FROM executions_flowexecution, generate_series(0, %(tasks)s - 1) AS task
    ORDER BY created_at, id, task
"""

# The tasks of an execution report for half a day, and the reports of all executions of that time are mixed.
_HISTORY = """
    INSERT INTO executions_taskstatus (uid, organization_id, flow_execution_id, task_name, status, created_at)
    SELECT uuidv7(reported_at - now()), organization_id, id, 'task-' || task, 'running', reported_at
    FROM (
        SELECT execution.*, task, least(now(), created_at + interval '12 hours' * random()) AS reported_at
        FROM (
            SELECT * FROM executions_flowexecution ORDER BY created_at LIMIT %(limit)s OFFSET %(offset)s
        ) AS execution, generate_series(0, %(tasks)s - 1) AS task, generate_series(1, %(reports)s)
    ) AS report
    ORDER BY reported_at
"""


def fill(organization: str, flows: Sequence[UUID], size: Size, tell: Callable[[str], None]) -> list[Execution]:
    """Fill an empty database that has the flows; return the executions. `tell` hears of the progress."""
    _make_months()
    with connection.cursor() as cursor:
        cursor.execute("SET synchronous_commit = off")
        cursor.execute("SET work_mem = '256MB'")
        values: dict[str, Any] = {"organization": organization, "flows": list(flows), "months": MONTHS}
        cursor.execute(_EXECUTIONS, {**values, "executions": size.executions})
        executions = [Execution(str(pk), str(flow)) for pk, flow in cursor.fetchall()]
        cursor.execute(_RUNS)
        cursor.execute(_OUTPUTS, {"tasks": TASKS})
        step = max(1, _ROWS_AT_ONCE // (TASKS * size.reports))
        for offset in range(0, size.executions, step):
            values = {"limit": step, "offset": offset, "tasks": TASKS, "reports": size.reports}
            cursor.execute(_HISTORY, values)
            done = min(size.executions, offset + step) * TASKS * size.reports
            tell(f"  {done:,} of {size.rows:,} history rows")
        cursor.execute("RESET ALL")
        with tenancy.showing(tenancy.NOBODY):  # saying whose would be a transaction around it
            cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("ANALYZE executions_taskstatus")
    return executions


def _make_months() -> None:
    now = timezone.now()
    for back in range(MONTHS + 1):
        add_partitions(now - timedelta(days=30.5 * back))
