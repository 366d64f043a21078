"""The flows and executions that batches are sent to, and the statement that the platform writes a batch by."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from django.db import connection

from benchmarks.workload import FLOWS, STATUS, TASKS, Execution
from executions.models import Flow
from executions.schemas import FlowDefinition, TaskDefinition, TaskStatusUpdate
from executions.services import create_flow, queue_execution
from executions.task_statuses import record_task_statuses
from flowplatform import tenancy
from flowplatform.accounts.actors import Actor

_OF_BATCH = {"execution", "flow", "uids", "names", "statuses"}  # parameters that differ from batch to batch

_TAG_EVERY_TASK = """
    INSERT INTO tags_tasktag (
        id, organization_id, flow_execution_id, task_name, tag, tag_type, metadata_digest, status,
        created_at, created_by, updated_at, modified_by
    )
    SELECT gen_random_uuid(), organization_id, flow_execution_id, task_name, 'seen', 'review', sha256('null'), 'active',
           now(), modified_by, now(), modified_by
    FROM executions_taskoutput
"""


def fill(actor: Actor, number: int) -> list[Execution]:
    """Make executions whose tasks have all reported and have a tag; let PostgreSQL see how large the tables are.

    Plans that were made for empty tables stay in a connection until something is analyzed.
    """
    executions = list(make_executions(actor, number))
    with connection.cursor() as cursor:
        cursor.execute(_TAG_EVERY_TASK)
        with tenancy.showing(tenancy.NOBODY):  # saying whose rows to show would be a transaction around it
            cursor.execute("VACUUM (ANALYZE)")
    return executions


def make_executions(actor: Actor, number: int) -> Iterator[Execution]:
    """Queue executions and have every task report once: nobody measures first inserts."""
    organization = next(iter(actor.organization_ids or ()))
    names = [f"task-{index}" for index in range(TASKS)]
    definition = FlowDefinition(tasks=[TaskDefinition(name=name) for name in names])
    for _ in range(FLOWS):
        flow: Flow = create_flow(
            actor=actor, organization_id=organization, display_name="Benchmark", description="", definition=definition
        )
        for _ in range(number // FLOWS):
            execution = queue_execution(actor=actor, flow=flow, input={})
            _report(actor, execution.pk, names)
            yield Execution(str(execution.pk), str(flow.pk))


def _report(actor: Actor, execution_id: UUID, names: list[str]) -> None:
    updates = [TaskStatusUpdate(task_name=name, status=STATUS) for name in names]
    record_task_statuses(actor=actor, execution_id=execution_id, updates=updates)


def caught_statement(actor: Actor, execution: Execution) -> tuple[str, dict[str, str]]:
    """Return the statement by which the platform writes a status batch, for the floor to do the same.

    Its parameters are those that are the same for all batches of the actor.
    """
    caught: list[tuple[str, Any]] = []

    def catch(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        caught.append((sql, parameters))
        return execute(sql, parameters, many, context)

    with connection.execute_wrapper(catch):
        _report(actor, UUID(execution.id), ["task-0"])
    if len(caught) != 1 or not set(caught[0][1] or ()) >= _OF_BATCH:
        found = [(sql[:60], sorted(parameters or ())) for sql, parameters in caught]
        raise RuntimeError(f"The floor in benchmarks/floor.py does not know how a status batch is written now: {found}")
    [(sql, parameters)] = caught
    return sql, {name: str(value) for name, value in parameters.items() if name not in _OF_BATCH}
