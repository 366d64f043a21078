"""Row-level security: the database shows no row of another organization, whatever the code asks for."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from django.apps import apps
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.db import DatabaseError, connection, models, transaction
from django.test import Client

from executions.models import Flow, FlowExecution, TaskOutput, TaskStatus
from executions.task_statuses import record_task_statuses
from flowplatform import embedded, tenancy
from flowplatform.accounts.models import Membership, Organization, OrganizationQuerySet, ServiceAccount
from flowplatform.accounts.services import ensure_member
from flowplatform.audit.models import Record
from flowplatform.embedded.locations import DATABASE, SUPERUSER, sockets_dir
from flowplatform.idempotency.models import IdempotencyKey
from flowplatform.idempotency.services import RequestKey
from flowplatform.postgresql.application_role import powers_of, refuse_powerful_role
from tags.models import TaskTag
from tests.builders import (
    Api,
    make_actor,
    make_execution,
    make_flow,
    make_member,
    make_organization,
    make_token,
    statuses,
    without_id,
)
from tests.cast import make_scene
from tests.servers import DATA_DIR
from tests.stack import ROOT


def owner_of(model: type[models.Model]) -> str | None:
    """Return the name of the field that says whose a row is."""
    if model is Organization:
        return "id"
    if model is IdempotencyKey:
        return "owner"
    try:
        return model._meta.get_field("organization").attname  # type: ignore[union-attr]
    except FieldDoesNotExist:
        return "organization_id" if any(f.name == "organization_id" for f in model._meta.fields) else None


PROTECTED = sorted((model for model in apps.get_models() if owner_of(model)), key=lambda model: model._meta.db_table)
names = [model._meta.db_table for model in PROTECTED]


@pytest.fixture
def neighbour(db: None) -> Organization:
    """Another organization with a row in every table."""
    return furnished()


@pytest.fixture
def ours(db: None) -> Organization:
    return furnished()


def furnished() -> Organization:
    organization = make_organization()
    make_scene(organization)
    make_member(organization)
    execution = make_execution(make_flow(organization))
    api = Api(make_token(organization))
    waiting = statuses(("extract", "awaiting_input"))
    path = f"/api/flow-executions/{execution.pk}/task-status"
    assert api.post(path, waiting, **{"Idempotency-Key": f"once-{organization.pk}"}).status_code == 200
    return organization


def value_of(organization: Organization) -> str:
    return tenancy.value_of([organization.pk])


def rows_of(model: type[models.Model], organization: Organization) -> int:
    """Count as SQL does that forgets to ask for the organization, apart from the one it is about."""
    table, owner = model._meta.db_table, owner_of(model)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table} WHERE {owner}::text = %s", [str(organization.pk)])
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("model", PROTECTED, ids=names)
def test_sql_that_asks_for_everything_gets_one_organizations_rows(
    model: type[models.Model], ours: Organization, neighbour: Organization
) -> None:
    with tenancy.showing(value_of(ours)):
        assert rows_of(model, ours) > 0, "the test has no row to show"
        assert rows_of(model, neighbour) == 0
    with tenancy.showing(value_of(neighbour)):
        assert rows_of(model, neighbour) > 0
        assert rows_of(model, ours) == 0
    with tenancy.showing(tenancy.value_of([ours.pk, neighbour.pk])):
        assert rows_of(model, ours) > 0
        assert rows_of(model, neighbour) > 0


@pytest.mark.parametrize("model", PROTECTED, ids=names)
def test_who_does_not_say_for_whom_is_shown_nothing(model: type[models.Model], ours: Organization) -> None:
    with tenancy.showing(tenancy.NOBODY), connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {model._meta.db_table}")
        assert cursor.fetchone() == (0,)


@pytest.mark.parametrize("model", [model for model in PROTECTED if model not in (TaskStatus, Record)], ids=str)
def test_rows_of_others_can_neither_be_changed_nor_removed(
    model: type[models.Model], ours: Organization, neighbour: Organization
) -> None:
    table, owner = model._meta.db_table, owner_of(model)
    before = rows_of(model, neighbour)
    with tenancy.showing(value_of(ours)), connection.cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE {owner}::text = %s", [str(neighbour.pk)])
        assert cursor.rowcount == 0
    assert rows_of(model, neighbour) == before


def test_a_row_cannot_be_given_to_others_or_written_for_them(ours: Organization, neighbour: Organization) -> None:
    with tenancy.showing(value_of(ours)):
        for write in (
            lambda: Flow.objects.update(organization=neighbour),
            lambda: Flow.objects.create(organization=neighbour, display_name="theirs", modified_by="us"),
            lambda: ServiceAccount.objects.create(organization=neighbour, name="theirs"),
            lambda: ServiceAccount.objects.create(organization=None, name="everybody's"),
            lambda: Membership.objects.create(organization=neighbour, user_id=make_user().pk, role="admin"),
            lambda: Organization.objects.create(slug="a-new-one", name="A new one"),
        ):
            with pytest.raises(DatabaseError, match="row-level security"), transaction.atomic():
                write()


def make_user() -> Any:
    with tenancy.showing(tenancy.EVERYBODY):
        return make_member(make_organization())


def test_every_unique_key_of_tenants_rows_begins_with_the_organization() -> None:
    keys = {
        f"{model.__name__}.{constraint.name}": constraint.fields[0]
        for model in PROTECTED
        for constraint in model._meta.constraints
        if isinstance(constraint, models.UniqueConstraint)
    }
    assert set(keys.values()) <= {"organization", "organization_id", "owner"}, keys
    unique = {f"{m.__name__}.{f.name}" for m in PROTECTED for f in m._meta.fields if f.unique and not f.primary_key}
    assert unique == {"Organization.slug"}  # it names the tenant itself, and only staff make one


def test_every_table_with_an_organization_has_a_policy_that_binds_its_owner_too(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT relname FROM pg_class JOIN pg_policy ON polrelid = pg_class.oid
            WHERE relrowsecurity AND relforcerowsecurity AND polname = 'tenant' AND polroles = '{0}'
            """
        )
        assert {name for (name,) in cursor.fetchall()} == set(names)
        cursor.execute(
            """
            SELECT table_name FROM information_schema.columns JOIN pg_class ON relname = table_name
            WHERE table_schema = 'public' AND column_name = 'organization_id' AND NOT relispartition
            """
        )
        assert {name for (name,) in cursor.fetchall()} <= set(names)


# --- What is shown ends with the transaction ------------------------------------------------------------------------


def setting() -> str:
    """Return what the database believes, as a statement that says nothing of it."""
    assert connection.connection is not None
    text = psycopg.Cursor(connection.connection).execute(f"SELECT current_setting('{tenancy.SETTING}', true)")
    (value,) = text.fetchone() or ("",)
    return value or ""


def test_the_connection_that_is_kept_remembers_no_tenant(committed: None) -> None:
    organization = make_organization("remembered")
    connection.ensure_connection()
    with tenancy.showing(value_of(organization)):
        assert Organization.objects.count() == 1
        assert setting() == ""
        with transaction.atomic():
            assert Organization.objects.count() == 1
            assert setting() == value_of(organization)
        assert setting() == ""
    with tenancy.showing(tenancy.NOBODY):
        assert Organization.objects.count() == 0


def test_what_is_shown_changes_within_a_transaction_and_survives_a_part_that_is_undone(
    ours: Organization, neighbour: Organization
) -> None:
    def shown() -> set[Any]:
        return set(Organization.objects.values_list("pk", flat=True))

    with tenancy.showing(value_of(ours)):
        assert shown() == {ours.pk}
        with transaction.atomic():
            with tenancy.showing(value_of(neighbour)):
                assert shown() == {neighbour.pk}
            transaction.set_rollback(True)  # PostgreSQL undoes its setting, too
        assert shown() == {ours.pk}
        with tenancy.showing(value_of(neighbour)):
            with pytest.raises(DatabaseError), transaction.atomic():
                connection.cursor().execute("SELECT 1/0")
            assert shown() == {neighbour.pk}
        assert shown() == {ours.pk}


# --- The wall stands where the first one has a hole -----------------------------------------------------------------


def test_a_view_that_forgets_its_scope_still_shows_and_changes_nothing_of_others(
    ours: Organization, neighbour: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OrganizationQuerySet, "visible_to", lambda rows, actor: rows)
    with tenancy.showing(value_of(neighbour)):
        flow, execution = Flow.objects.earliest("id"), FlowExecution.objects.earliest("id")
        output, tags = TaskOutput.objects.earliest("id"), TaskTag.objects.count()
    member = make_member(ours, "admin")
    for api in (Api(make_token(ours)), Api(user=member)):
        for path in (
            f"/api/flows/{flow.pk}",
            f"/api/flows/{flow.pk}/events",
            f"/api/flow-executions/{execution.pk}",
            f"/api/flow-executions/{execution.pk}/task-status",
            f"/api/task-tags?flow_execution_id={execution.pk}",
            f"/api/task-outputs/{output.pk}",
        ):
            assert api.get(path).status_code == 404, path
        assert str(flow.pk) not in api.get("/api/flows?page_size=1000").content.decode()
        assert api("DELETE", f"/api/flow-executions/{execution.pk}").status_code == 404
        assert (
            api("PUT", f"/api/flows/{flow.pk}/definition", {"definition": {"tasks": [{"name": "a"}]}}).status_code
            == 404
        )
    for path in (f"/flows/{flow.pk}/", f"/executions/{execution.pk}/", f"/executions/{execution.pk}/tags.csv"):
        assert Api(user=member).get(path).status_code == 404, path
    with tenancy.showing(value_of(neighbour)):
        assert FlowExecution.objects.get(pk=execution.pk).status == execution.status
        assert TaskTag.objects.count() == tags


def test_a_batch_that_believes_a_wrong_actor_writes_nothing(ours: Organization, neighbour: Organization) -> None:
    """As if the remembered facts of an execution were another organization's: the statement itself finds no row."""
    from executions.schemas import TaskStatusUpdate

    execution = make_execution(make_flow(neighbour))
    actor = make_actor(neighbour)
    history = TaskStatus.objects.filter(flow_execution=execution)
    with tenancy.showing(value_of(ours)), pytest.raises(Exception, match=r"(?i)not found"):
        record_task_statuses(
            actor=actor, execution_id=execution.pk, updates=[TaskStatusUpdate(task_name="extract", status="running")]
        )
    assert not history.exists()


def test_an_answer_that_was_kept_for_a_key_is_its_owners(ours: Organization, neighbour: Organization) -> None:
    key = RequestKey.of(owner=str(neighbour.pk), key="x", method="POST", path="/", body={})
    IdempotencyKey.objects.create(
        owner=key.owner, key=key.key, digest=b"", answer=b"secret", expires_at=datetime(2999, 1, 1, tzinfo=UTC)
    )
    with tenancy.showing(value_of(ours)):
        assert not IdempotencyKey.objects.filter(key="x").exists()


def test_people_of_several_organizations_see_the_rows_of_all_of_theirs(
    ours: Organization, neighbour: Organization
) -> None:
    third = furnished()
    person = make_member(ours)
    ensure_member(user=person, organization=neighbour, role="viewer")
    listed = Api(user=person).get("/api/flows?page_size=1000").json()
    assert {flow["organization_id"] for flow in listed} == {str(ours.pk), str(neighbour.pk)}
    assert str(third.pk) not in str(listed)


def test_an_export_that_is_sent_after_its_request_shows_what_the_request_may_see(
    ours: Organization, neighbour: Organization
) -> None:
    with tenancy.showing(value_of(ours)):
        execution = FlowExecution.objects.latest("id")
    client = Client()
    client.force_login(make_member(ours))
    response = client.get(f"/executions/{execution.pk}/tasks.csv")
    text = b"".join(response).decode()  # after the middleware has gone
    assert response.status_code == 200
    assert "awaiting_input" in text
    with tenancy.showing(value_of(neighbour)):
        assert not Organization.objects.filter(pk=ours.pk).exists()
    client.force_login(make_member(neighbour))
    assert client.get(f"/executions/{execution.pk}/tasks.csv").status_code == 404


def test_a_system_service_account_and_staff_are_shown_everybodys_rows(
    ours: Organization, neighbour: Organization
) -> None:
    listed = Api(make_token(None)).get("/api/flows?page_size=1000").json()
    assert {str(ours.pk), str(neighbour.pk)} <= {flow["organization_id"] for flow in listed}
    staff = make_member(ours)
    staff.is_staff = staff.is_superuser = True
    staff.save()
    page = Api(user=staff).get("/admin/accounts/organization/").content.decode()
    assert neighbour.name in page
    staff.is_staff = staff.is_superuser = False
    staff.save()
    assert neighbour.name not in Api(user=staff).get("/admin/accounts/organization/").content.decode()


def test_nobody_is_shown_anything_before_they_are_known(ours: Organization) -> None:
    missing = Api().get(f"/api/flows/{ours.pk}")
    assert missing.status_code == 401
    foreign, unknown = (Api(make_token(make_organization())).get(f"/api/flows/{pk}") for pk in (flow_of(ours), ours.pk))
    assert without_id(foreign) == without_id(unknown)


def flow_of(organization: Organization) -> Any:
    return Flow.objects.filter(organization=organization).values_list("pk", flat=True)[0]


# --- The role -------------------------------------------------------------------------------------------------------


@pytest.fixture
def as_owner(django_db_setup: None) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(embedded.owner_database_url(DATA_DIR), autocommit=True) as owner:
        yield owner


def test_the_servers_role_owns_nothing_and_cannot_become_the_owner(db: None) -> None:
    connection.ensure_connection()
    assert powers_of(connection.connection) is None
    for power in (
        "ALTER TABLE executions_flow DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE executions_flow NO FORCE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON executions_flow",
        "SET ROLE flowplatform",
        "SET SESSION AUTHORIZATION postgres",
        "TRUNCATE tags_tasktag",
        "UPDATE executions_flowversion SET number = 9",
        "UPDATE executions_taskstatus SET status = 'x'",
        "DELETE FROM executions_taskstatus",
        "DELETE FROM audit_record",
        "UPDATE audit_record SET outcome = 'done'",
        "SELECT * FROM executions_taskstatus_default",
        "CREATE TABLE mine ()",
        "CREATE ROLE mine SUPERUSER",
        "ALTER TABLE executions_taskstatus DISABLE TRIGGER task_status_is_immutable",
        "DELETE FROM django_migrations",
    ):
        with pytest.raises(DatabaseError, match=r"permission denied|must be owner"), transaction.atomic():
            connection.cursor().execute(power)


def test_the_owner_and_a_superuser_are_refused_as_the_servers_role(as_owner: psycopg.Connection[Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"flowplatform owns the tables.*OWNER_DATABASE_URL"):
        refuse_powerful_role(as_owner)
    with (
        psycopg.connect(f"host={sockets_dir(DATA_DIR)} user={SUPERUSER} dbname={DATABASE}") as superuser,
        pytest.raises(ImproperlyConfigured, match="postgres is a superuser"),
    ):
        refuse_powerful_role(superuser)


def test_the_owner_is_bound_by_the_policies_and_by_append_only_history(
    as_owner: psycopg.Connection[Any], committed: None
) -> None:
    execution = make_execution(make_flow(make_organization("bound")))
    Api(make_token(execution.organization)).post(
        f"/api/flow-executions/{execution.pk}/task-status", statuses(("extract", "running"))
    )
    everything = "SELECT count(*) FROM executions_taskstatus WHERE flow_execution_id = %s"
    assert as_owner.execute(everything, [execution.pk]).fetchone() == (0,)
    with as_owner.transaction():
        as_owner.execute(f"SET LOCAL {tenancy.SETTING} = '*'")
        assert as_owner.execute(everything, [execution.pk]).fetchone() == (1,)
    for change in ("executions_taskstatus SET status = 'x'", "executions_flowversion SET number = 9"):
        with as_owner.transaction(force_rollback=True):
            as_owner.execute(f"SET LOCAL {tenancy.SETTING} = '*'")
            with pytest.raises(psycopg.Error, match="append-only"):
                as_owner.execute(f"UPDATE {change}")


def test_the_servers_role_can_drop_no_partition_that_is_not_past_and_no_other_table(db: None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'executions_taskstatus'::regclass"
        )
        parts = {name for (name,) in cursor.fetchall()}
        for part in (*parts, "executions_flow", "no_such_table"):
            cursor.execute("SELECT flowplatform_drop_partition('executions_taskstatus', %s)", [part])
        cursor.execute("SELECT to_regclass('executions_flow') IS NOT NULL")
        assert cursor.fetchone() == (True,)
        cursor.execute(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'executions_taskstatus'::regclass"
        )
        assert {name for (name,) in cursor.fetchall()} == parts
    for parent in ("executions_flow", "pg_class"):
        with pytest.raises(DatabaseError, match="has no months"), transaction.atomic():
            connection.cursor().execute("SELECT flowplatform_partition_step(%s, 'create', now())", [parent])


@pytest.mark.parametrize("command", [["flowplatform.web", "--port", "0"], ["flowplatform.live", "--port", "0"]])
def test_a_server_that_could_pass_the_wall_by_refuses_to_start(command: list[str], django_db_setup: None) -> None:
    environment = {**os.environ, "DATABASE_URL": embedded.owner_database_url(DATA_DIR), "SECRET_KEY": "x1y2" * 13,
                   "ALLOWED_HOSTS": "127.0.0.1", "REDIS_URL": embedded.redis_url(DATA_DIR)}  # fmt: skip
    environment.pop("FLOWPLATFORM_ROLE", None)
    ended = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode != 0
    assert "Row-level security would not hold" in ended.stderr
    assert "Traceback" not in ended.stderr
