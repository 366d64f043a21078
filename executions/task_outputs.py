"""Task outputs as a service sets them; what else they say is derived (`task_statuses.py`, `task_executions.py`)."""

from executions.definitions import refuse_unknown_tasks
from executions.facts import facts_of
from executions.locks import hold_task
from executions.models import TaskOutput
from executions.schemas import TaskOutputBody
from executions.task_changes import TaskChanges
from flowplatform.accounts.actors import Actor
from flowplatform.transactions import retried_transaction


@retried_transaction
def set_task_output(*, actor: Actor, body: TaskOutputBody) -> TaskOutput:
    """Set the summary or the output of a task, or both.

    Raises 404 for an execution that is missing, deleted or foreign, 400 for a task name its version does not define.
    """
    facts = facts_of(actor, body.flow_execution_id)
    refuse_unknown_tasks([(body.task_name, facts.task_names)])
    row = hold_task(actor, body.flow_execution_id, body.task_name)
    for field in body.model_fields_set & {"summary", "output"}:
        setattr(row, field, getattr(body, field))
    row.save()
    changes = TaskChanges(actor, facts, body.flow_execution_id)
    changes.note(row)
    changes.publish()
    return row
