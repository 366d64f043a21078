"""What a process of a crowd runs: Django set up at import, because a spawned process begins with nothing."""

import random
from uuid import UUID

import django

django.setup()

from executions.models import FlowExecution  # noqa: E402
from executions.schemas import TaskStatusUpdate  # noqa: E402
from executions.task_statuses import record_task_statuses  # noqa: E402
from notifications.relay import number_pending  # noqa: E402
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


def relay(flow_id: UUID) -> int:
    """Be one of several relays of a flow; return how many events it numbered."""
    return len(number_pending(flow_id))
