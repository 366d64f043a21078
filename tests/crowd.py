"""What a process of a crowd runs: Django set up at import, because a spawned process begins with nothing."""

import random
from uuid import UUID

import django

django.setup()

from executions.models import FlowExecution  # noqa: E402
from executions.schemas import TaskStatusUpdate  # noqa: E402
from executions.task_statuses import record_task_statuses  # noqa: E402
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


def relay(flow_id: UUID) -> int:
    """Be one of several relays of a flow; return how many events it numbered."""
    return sum(map(len, number_pending(flow_id)))
