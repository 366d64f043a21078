"""What a process of a crowd runs: Django set up at import, because a spawned process begins with nothing."""

import random
from uuid import UUID

import django

django.setup()

from executions.models import FlowExecution, TaskExecution  # noqa: E402
from executions.reruns import execute_again  # noqa: E402
from executions.schemas import TaskExecutionBody, TaskExecutionEdit, TaskStatusUpdate  # noqa: E402
from executions.serializers import task_execution_answer  # noqa: E402
from executions.task_executions import edit_task_execution, record_task_execution  # noqa: E402
from executions.task_statuses import record_task_statuses  # noqa: E402
from flowplatform.accounts.actors import Actor  # noqa: E402
from flowplatform.encoding import encode  # noqa: E402
from flowplatform.errors import Conflict  # noqa: E402
from notifications.relay import number_pending  # noqa: E402
from tags.schemas import TagOperation  # noqa: E402
from tags.services import change_task_tags  # noqa: E402
from tests.builders import make_actor  # noqa: E402

TASKS = [f"task-{index}" for index in range(12)]
BATCHES = 40
ROWS = BATCHES * (len(TASKS) + 3)  # that one call of `report` makes


def report(seed: int, execution_id: UUID) -> None:
    """Report all tasks, every time in another order, three of them twice."""
    chance = random.Random(seed)
    actor = make_actor(FlowExecution.objects.get(pk=execution_id).organization)
    for number in range(BATCHES):
        names = chance.sample(TASKS, len(TASKS)) + chance.sample(TASKS, 3)
        updates = [
            TaskStatusUpdate(task_name=name, status=f"{seed}/{number}/{place}") for place, name in enumerate(names)
        ]
        record_task_statuses(actor=actor, execution_id=execution_id, updates=updates)


def tag(seed: int, execution_ids: list[UUID]) -> list[str]:
    """Send batches of the same tags, each time in another order over the executions; return what they did."""
    chance = random.Random(seed)
    actor = make_actor(FlowExecution.objects.get(pk=execution_ids[0]).organization)
    outcomes: list[str] = []
    for number in range(15):
        batch = [
            TagOperation(operation="add", flow_execution_id=pk, task_name=task, tag=f"round {number}", tag_type="crowd")
            for pk in execution_ids
            for task in TASKS[:4]
        ]
        outcomes += change_task_tags(actor=actor, operations=chance.sample(batch, len(batch)))
    return outcomes


def attempt_and_edit(seed: int, execution_id: UUID) -> int:
    """Report attempts and statuses, edit and run again what others do the same to; return how many edits were late."""
    chance = random.Random(seed)
    actor = make_actor(FlowExecution.objects.get(pk=execution_id).organization)
    late = 0
    for number in range(BATCHES):
        told = {"task_name": chance.choice(TASKS), "task_execution_idx": chance.randrange(3), "error": [seed, number]}
        status = chance.choice(["queued", "running", "completed"])
        report = TaskExecutionBody(flow_execution_id=execution_id, processing_status=status, output=number, **told)
        attempt = record_task_execution(actor=actor, report=report)
        if number % 2:  # the first half of the tasks has a history besides, the other one attempts only
            updates = [TaskStatusUpdate(task_name=name, status=status) for name in chance.sample(TASKS[:6], 3)]
            record_task_statuses(actor=actor, execution_id=execution_id, updates=updates)
        if not number % 4:
            late += _edit(actor, attempt, execute_flow=not number % 8)
        if not number % 10:
            execute_again(actor=actor, execution_id=execution_id, only_stale=chance.random() < 0.5)
    return late


def _edit(actor: Actor, attempt: TaskExecution, *, execute_flow: bool) -> bool:
    edit = TaskExecutionEdit.model_validate_json(encode(task_execution_answer(attempt, [])))
    try:
        edit_task_execution(actor=actor, execution_id=attempt.flow_execution_id, edit=edit, execute_flow=execute_flow)
    except Conflict:
        return True
    return False


def relay(flow_id: UUID) -> int:
    """Be one of several relays of a flow; return how many events it numbered."""
    return sum(len(rows) for numbered in number_pending([flow_id]) for rows in numbered.values())
