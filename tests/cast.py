"""The cast of the fuzz tests: an organization with a bit of everything, a stranger's with the same, and who asks."""

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.test import Client

from executions.models import FlowExecution, TaskExecution, TaskOutput, TaskStatus
from executions.schemas import TaskExecutionBody, TaskOutputBody, TaskStatusUpdate
from executions.services import change_execution_status, delete_execution
from executions.task_executions import record_task_execution
from executions.task_outputs import set_task_output
from executions.task_statuses import record_task_statuses
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import SCOPES, Organization, User
from flowplatform.accounts.services import ensure_member
from flowplatform.cursors import encode_cursor
from tags.schemas import TagOperation
from tags.services import change_task_tags
from tests.builders import make_actor, make_execution, make_flow, make_organization, make_token

FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))  # `make fuzz` sets it; 0: few, and the same at every run

TASKS = ("extract", "classify", "report")


@dataclass(frozen=True, eq=False)
class Asker:
    """Somebody who asks: the headers and cookies of their requests."""

    headers: dict[str, str] = field(default_factory=dict)
    cookies: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """An execution and what belongs to it: the real values of the names that requests use."""

    values: dict[str, Any]
    cursors: dict[str, str]  # by the end of the list's path


@dataclass(frozen=True)
class Cast:
    """Everybody and everything."""

    organization: Organization
    askers: dict[str, Asker]
    scenes: list[Scene]  # the first ones are the organization's own and alive


def make_cast() -> Cast:
    organization, other = make_organization(), make_organization()
    scenes = [
        make_scene(organization),
        make_scene(organization, status="running"),
        make_scene(organization, status="cancel_requested"),
        make_scene(organization, status="deleted"),
        make_scene(other),
    ]
    return Cast(organization, _askers(organization, other), scenes)


def _askers(organization: Organization, other: Organization) -> dict[str, Asker]:
    session = signed_in(organization, "member")
    return {
        "nobody": Asker(),
        "forger": Asker({"Authorization": f"Bearer {'0' * 8}.{'0' * 40}"}),
        "viewer": signed_in(organization, "viewer"),
        "member": session,
        "member without CSRF token": Asker({}, session.cookies),
        "admin": signed_in(organization, "admin"),
        **{scope: service(organization, [scope]) for scope in SCOPES},
        "service": service(organization, SCOPES),
        "system": service(None, SCOPES),
        "stranger": service(other, SCOPES),
    }


def service(organization: Organization | None, scopes: Any) -> Asker:
    """Return a program of an organization, or of the system."""
    return Asker({"Authorization": f"Bearer {make_token(organization, scopes)}"})


def signed_in(organization: Organization | None, role: str, **fields: Any) -> Asker:
    """Return a person with a real session, and a CSRF token that cookie and header agree on, as a browser has it."""
    fields.setdefault("username", f"{role}-of-{organization.slug if organization else 'nothing'}")
    user = User.objects.create(**fields)
    if organization:
        ensure_member(user=user, organization=organization, role=role)
    client = Client()
    client.force_login(user)
    token = secrets.token_hex(16)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    return Asker({"X-CSRFToken": token}, {settings.SESSION_COOKIE_NAME: session, settings.CSRF_COOKIE_NAME: token})


def make_scene(
    organization: Organization, *, status: str = "queued", tasks: Sequence[str] = TASKS, tag: str = "approved"
) -> Scene:
    """Return an execution in which every task has reported and been attempted, and the last one been tagged."""
    flow = make_flow(organization, *tasks)
    execution = make_execution(flow)
    _report(make_actor(organization), execution, tasks, tag)
    _set_status(make_actor(organization), execution, status)
    attempt = TaskExecution.objects.filter(flow_execution=execution).latest("id")
    output = TaskOutput.objects.get(flow_execution=execution, task_name=attempt.task_name)
    newest = TaskStatus.objects.filter(flow_execution=execution).latest("position")
    values = {
        "flow_id": str(flow.pk),
        "flow_execution_id": str(execution.pk),
        "task_execution_id": str(attempt.pk),
        "id": str(attempt.pk),
        "task_output_id": str(output.pk),
        "task_name": attempt.task_name,
        "task_execution_idx": attempt.task_execution_idx,
        "updated_at": attempt.updated_at.isoformat().replace("+00:00", "Z"),
        "organization_id": str(organization.pk),
        "X-Organization": organization.slug,
        "tag": tag,
        "tag_type": "review",
        "tags": f"review:{tag}",
    }
    cursors = {
        place: encode_cursor(f"{place} {execution.pk}", after)
        for place, after in (
            ("task-status", newest.position),
            ("task-executions", str(attempt.pk)),
            ("task-outputs", str(output.pk)),
        )
    }
    return Scene(values, cursors)


def _report(actor: Actor, execution: FlowExecution, tasks: Sequence[str], tag: str) -> None:
    updates = [TaskStatusUpdate(task_name=name, status="running") for name in tasks]
    record_task_statuses(actor=actor, execution_id=execution.pk, updates=updates)
    for number, name in enumerate(tasks):
        report = {
            "flow_execution_id": str(execution.pk),
            "task_name": name,
            "task_execution_idx": number,
            "processing_status": "completed",
            "output": {"pages": number},
        }
        record_task_execution(actor=actor, report=TaskExecutionBody.model_validate_json(json.dumps(report)))
        set_task_output(
            actor=actor, body=TaskOutputBody(flow_execution_id=execution.pk, task_name=name, summary=f"{number} pages")
        )
    operation = {"flow_execution_id": execution.pk, "task_name": tasks[-1], "tag": tag, "tag_type": "review"}
    removed = {**operation, "tag": "rejected"}
    operations = [("add", operation), ("add", removed), ("remove", removed)]
    change_task_tags(actor=actor, operations=[TagOperation(operation=name, **fields) for name, fields in operations])


def _set_status(actor: Actor, execution: FlowExecution, status: str) -> None:
    if status == "deleted":
        delete_execution(actor=actor, execution_id=execution.pk)
    else:
        change_execution_status(actor=actor, execution_id=execution.pk, status=status)


@contextmanager
def rolled_back() -> Iterator[None]:
    """Undo what is written, having let the database check it as a commit would."""
    with transaction.atomic():
        yield
        connection.check_constraints()
        transaction.set_rollback(True)


# --- Real values in made-up requests ------------------------------------------------------------------------------


def put(name: str, value: Any, values: dict[str, Any]) -> Any:
    """Return a value with real ones in it; what does not fit its schema goes on not to fit."""
    if isinstance(value, dict):
        return {key: put(key, inner, values) for key, inner in value.items()}
    if isinstance(value, list):
        return [put(name, inner, values) for inner in value]
    return values[name] if name in values and _has_the_form(value, values[name]) else value


def _has_the_form(value: Any, real: Any) -> bool:
    if isinstance(real, int):
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31
    if not isinstance(value, str):
        return False
    return _is_uuid(value) if _is_uuid(real) else 1 <= len(value) <= 100


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False
