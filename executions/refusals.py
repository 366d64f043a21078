"""What requests about flows, executions and tasks are refused for, as the OpenAPI document shows it."""

from flowplatform.openapi import KEY_IN_FLIGHT, Reason, refused

INVALID_DEFINITION = refused(
    "The definition is broken: names used twice, unknown dependencies or a cycle. `details` name every place.",
    Reason(
        "invalid definition",
        "The flow definition is invalid.",
        code="invalid_definition",
        details=[{"loc": ["definition", "tasks", 1, "depends_on", 0], "msg": "there is no task 'extrct'"}],
    ),
)
UNKNOWN_TASKS = Reason(
    "unknown task",
    "The flow version does not define these tasks; nothing was written.",
    details=[{"index": 1, "task_name": "extrct"}],
)
REFUSED_TASKS = refused("A task name that the flow version does not define; nothing was written.", UNKNOWN_TASKS)
_BEING_CANCELLED = Reason(
    "being cancelled",
    "The execution is being cancelled: it can run again once its status is cancelled.",
    code="conflict",
)
BEING_CANCELLED = refused(
    "The execution is being cancelled, or the first request with this key is still running.",
    _BEING_CANCELLED,
    KEY_IN_FLIGHT,
)
CHANGED_MEANWHILE = refused(
    "Somebody changed the task execution since it was read, the flow should run again while it is being cancelled, or "
    "the first request with this key is still running.",
    Reason(
        "changed meanwhile",
        "The task execution was changed since it was read: read it again and repeat the edit.",
        code="conflict",
    ),
    _BEING_CANCELLED,
    KEY_IN_FLIGHT,
)
