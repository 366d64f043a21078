"""What is removed after its time, by the tasks that beat starts: deleted executions, tokens that ended, sessions."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.apps import apps
from django.conf import settings as configured
from django.contrib.sessions.models import Session
from django.db import DatabaseError, connection, transaction
from django.db.models import Model
from django.utils import timezone
from pytest_django import Settings

from executions.models import FlowExecution
from executions.removal import remove_deleted
from executions.tasks import remove_deleted_executions
from flowplatform import tenancy
from flowplatform.accounts.models import Organization, ServiceToken
from flowplatform.accounts.services import authenticate_token
from flowplatform.accounts.sessions import SessionStore
from flowplatform.accounts.tasks import prune
from flowplatform.celery import app
from tests.builders import Api, make_execution, make_flow, make_organization, make_token, statuses

ROOT = Path(__file__).resolve().parent.parent
NOW = timezone.now()


def make_full_execution(organization: Organization, deleted: timedelta | None) -> FlowExecution:
    """Make an execution with a row in every table that can have one, deleted so long ago if at all."""
    execution = make_execution(make_flow(organization))
    worker = Api(make_token(organization))
    report = statuses(("extract", "completed"), ("classify", "awaiting_input"))
    assert worker.post(f"/api/flow-executions/{execution.pk}/task-status", report).status_code == 200
    task = {"flow_execution_id": str(execution.pk), "task_name": "extract"}
    attempt = {**task, "task_execution_idx": 0, "processing_status": "completed", "output": {"total": 1}}
    assert worker.post("/api/task-executions", attempt).status_code == 201
    tag = {**task, "operation": "add", "tag": "approved", "tag_type": "review"}
    assert worker("PATCH", "/api/task-tags", {"tags": [tag]}).status_code == 200
    if deleted is not None:
        assert worker("DELETE", f"/api/flow-executions/{execution.pk}").status_code == 204
        FlowExecution.objects.filter(pk=execution.pk).update(updated_at=timezone.now() - deleted)
    return execution


def rows_of(execution: FlowExecution) -> dict[str, int]:
    """Return the number of rows that name the execution, by table: whatever tables there will be."""
    return {
        model._meta.label: model._default_manager.filter(flow_execution_id=execution.pk).count()
        for model in apps.get_models()
        if model is not apps.get_model("notifications.Event") and names_executions(model)
    }


def names_executions(model: type[Model]) -> bool:
    return any(field.attname == "flow_execution_id" for field in model._meta.concrete_fields)


def test_a_deleted_execution_goes_with_everything_after_its_time_and_others_stay(
    organization: Organization, settings: Settings
) -> None:
    settings.DELETED_EXECUTION_RETENTION_DAYS = 30
    old = make_full_execution(organization, timedelta(days=31))
    young = make_full_execution(organization, timedelta(days=29))
    alive = make_full_execution(organization, None)
    FlowExecution.objects.filter(pk=alive.pk).update(updated_at=timezone.now() - timedelta(days=400))
    foreign = make_full_execution(make_organization(), None)
    before = rows_of(alive)
    assert set(before.values()).isdisjoint({0}), "this execution is to have a row of each kind"
    remove_deleted_executions()
    assert set(rows_of(old).values()) == {0}
    assert not FlowExecution.objects.filter(pk=old.pk).exists()
    for kept in (young, alive, foreign):
        assert rows_of(kept) == before
        assert FlowExecution.objects.filter(pk=kept.pk).exists()


def test_nothing_is_removed_unless_somebody_asked(organization: Organization) -> None:
    assert configured.DELETED_EXECUTION_RETENTION_DAYS == 0
    execution = make_full_execution(organization, timedelta(days=4_000))
    remove_deleted_executions()
    assert FlowExecution.objects.filter(pk=execution.pk).exists()


def test_numbers_of_runs_go_on(organization: Organization) -> None:
    execution = make_full_execution(organization, timedelta(days=2))
    assert remove_deleted(before=timezone.now() - timedelta(days=1)) == 1
    assert make_execution(execution.flow).run_number == execution.run_number + 1


def test_those_that_wait_longest_go_first_and_not_all_at_once(organization: Organization) -> None:
    executions = [make_full_execution(organization, timedelta(days=days)) for days in (5, 9, 7)]
    before = timezone.now() - timedelta(days=1)
    assert remove_deleted(before=before, limit=2) == 2
    assert FlowExecution.objects.filter(pk__in=[one.pk for one in executions]).get() == executions[0]
    assert remove_deleted(before=before, limit=2) == 1


def test_the_history_of_a_run_that_was_not_deleted_or_is_not_shown_cannot_be_forgotten(
    organization: Organization,
) -> None:
    alive, deleted = make_full_execution(organization, None), make_full_execution(organization, timedelta())
    stranger = tenancy.value_of([make_organization().pk])
    for execution, shown in ((alive, tenancy.EVERYBODY), (deleted, stranger), (deleted, tenancy.NOBODY)):
        with pytest.raises(DatabaseError, match="was not deleted"), transaction.atomic(), tenancy.showing(shown):
            connection.cursor().execute("SELECT executions_forget_history(%s)", [execution.pk])
    assert rows_of(deleted) == rows_of(alive)


@pytest.mark.parametrize("table", ["executions_taskexecution", "executions_flowexecution"])
def test_a_removal_that_fails_leaves_everything(organization: Organization, table: str) -> None:
    execution = make_full_execution(organization, timedelta(days=2))
    before = rows_of(execution)

    def fail(execute: Any, sql: str, *rest: Any) -> Any:
        if f'DELETE FROM "{table}"' in sql:
            raise InterruptedError
        return execute(sql, *rest)

    with connection.execute_wrapper(fail), pytest.raises(InterruptedError):
        remove_deleted(before=timezone.now() - timedelta(days=1))
    assert rows_of(execution) == before


def test_two_workers_do_not_wait_for_each_other(committed: None) -> None:
    """One holds an execution; the other takes what is left."""
    organization = make_organization(f"removal-{uuid4().hex}")
    held, free = (make_full_execution(organization, timedelta(days=3_000 + days)) for days in (1, 0))
    before = timezone.now() - timedelta(days=2_999)

    def remove() -> int:
        try:
            return remove_deleted(before=before)
        finally:
            connection.close()

    with transaction.atomic(), ThreadPoolExecutor(1) as pool:
        FlowExecution.objects.select_for_update().get(pk=held.pk)
        assert pool.submit(remove).result(20) == 1
        assert [*FlowExecution.objects.filter(pk__in=[held.pk, free.pk])] == [held]
    assert remove() == 1


# --- Accounts -------------------------------------------------------------------------------------------------------


def make_ended_token(organization: Organization, **ended: Any) -> str:
    token = make_token(organization)
    ServiceToken.objects.filter(prefix=token.partition(".")[0]).update(**ended)
    return token


@pytest.mark.parametrize(("days", "kept"), [(0, 5), (365, 3)])
def test_tokens_go_after_their_time_and_those_that_hold_stay(
    organization: Organization, settings: Settings, days: int, kept: int
) -> None:
    settings.TOKEN_RETENTION_DAYS = days
    long_ago, lately = NOW - timedelta(days=366), NOW - timedelta(days=364)
    for ended in (long_ago, lately):
        make_ended_token(organization, revoked=True, revoked_at=ended)
        make_ended_token(organization, expiry_date=ended)
    holds = make_ended_token(organization, created=long_ago, last_used_at=long_ago)
    prune()
    assert ServiceToken.objects.filter(service_account__organization=organization).count() == kept
    assert authenticate_token(holds) is not None


def test_expired_sessions_go_and_others_stay(db: None) -> None:
    kept, gone = SessionStore(), SessionStore()
    for session, ends in ((kept, timedelta(minutes=1)), (gone, -timedelta(minutes=1))):
        session.create()
        Session.objects.filter(pk=session.session_key).update(expire_date=timezone.now() + ends)
    prune()
    keys = {kept.session_key, gone.session_key}
    assert [*Session.objects.filter(pk__in=keys).values_list("pk", flat=True)] == [kept.session_key]


# --- The policy -----------------------------------------------------------------------------------------------------


def test_beat_starts_only_tasks_that_exist() -> None:
    app.loader.import_default_modules()
    for name, entry in configured.CELERY_BEAT_SCHEDULE.items():
        assert entry["task"] in app.tasks, name


def test_the_policy_names_every_time_that_can_be_set_and_its_default() -> None:
    policy = (ROOT / "docs" / "retention.md").read_text()
    known = re.findall(r'_env\.int\("(\w+_RETENTION_\w+)", (\d+)', (ROOT / "flowplatform" / "env.py").read_text())
    assert len(known) >= 4
    for name, default in known:
        assert re.search(rf"`{name}` \| {default}\b", policy), name
