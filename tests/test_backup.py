"""A backup taken while everybody writes, restored into a server that has nothing, and what clients notice of it."""

import asyncio
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid4

import httpx
import psycopg
import pytest
from django.contrib.sessions.models import Session
from pytest_django.plugin import DjangoDbBlocker

from executions.models import FlowExecution
from flowplatform import embedded
from flowplatform.embedded.locations import DATABASE, SUPERUSER, sockets_dir
from flowplatform.embedded.place import Place, postgres_programs
from notifications.models import Stream
from tests.builders import make_execution, make_flow, make_organization, make_token, statuses
from tests.conftest import Platform
from tests.servers import DATA_DIR
from tests.stack import ROOT, Stack, wait_until
from tests.test_sockets import events_from, frame_from, session_cookie, settle, watching

TASKS = ("extract", "classify", "report")


def run(program: str, data_dir: Path, *arguments: str | Path, **options: Any) -> str:
    """Run one of PostgreSQL's programs against the server of a data directory, as its superuser."""
    place = ["--host", sockets_dir(data_dir), "--username", SUPERUSER]
    command = [postgres_programs() / program, *place, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(data_dir: Path, sql: str, *values: Any) -> list[tuple[Any, ...]]:
    """Ask the database of a data directory, above all policies."""
    with psycopg.connect(host=str(sockets_dir(data_dir)), user=SUPERUSER, dbname=DATABASE) as connection:
        return connection.execute(sql, values or None).fetchall()  # type: ignore[arg-type]


@dataclass
class Writer:
    """A worker that reports without end: batches of one status for every task, numbered."""

    url: str
    execution_id: UUID
    token: str
    acknowledged: int = 0
    first: int = 0
    _stopped: threading.Event = field(default_factory=threading.Event)

    def report(self) -> None:
        path = f"{self.url}/api/flow-executions/{self.execution_id}/task-status"
        body = statuses(*((task, f"batch {self.first + self.acknowledged}") for task in TASKS))
        httpx.post(path, json=body, headers={"Authorization": f"Bearer {self.token}"}).raise_for_status()
        self.acknowledged += 1

    @contextmanager
    def writing(self) -> Iterator[None]:
        thread = threading.Thread(target=self._write)
        thread.start()
        try:
            yield
        finally:
            self._stopped.set()
            thread.join(10)

    def _write(self) -> None:
        while not self._stopped.is_set():
            self.report()


@dataclass
class Backup:
    """What was dumped, and what the world knew of it in the end."""

    file: Path
    execution: FlowExecution
    token: str
    acknowledged_before: int
    acknowledged: int
    epoch: str
    offset: int


@pytest.fixture(scope="module")
def backup(platform: Platform, django_db_blocker: DjangoDbBlocker) -> Iterator[Backup]:
    """Dump the running platform under load; more is written, seen by clients, and lost."""
    with django_db_blocker.unblock(), TemporaryDirectory() as folder:
        organization = make_organization(f"backup-{uuid4().hex}")
        session_cookie(organization)
        execution, token = make_execution(make_flow(organization, *TASKS)), make_token(organization)
        writer = Writer(platform.url, execution.pk, token)
        for _ in range(3):
            writer.report()
        before = writer.acknowledged
        file = Path(folder) / "flowplatform.dump"
        with writer.writing():
            run("pg_dump", DATA_DIR, "--format", "custom", "--file", file, DATABASE)
            after = writer.acknowledged
            wait_until(lambda: writer.acknowledged >= after + 3, what="writing after the backup")
        settle(execution)
        stream = Stream.objects.get(pk=execution.flow_id)
        yield Backup(file, execution, token, before, writer.acknowledged, str(stream.epoch), stream.offset)


@pytest.fixture(scope="module")
def restored(backup: Backup) -> Iterator[Stack]:
    """Do what docs/backup.md says, on a server without roles or tables; then run the platform on it."""
    with TemporaryDirectory(prefix="flowplatform-restored-") as folder, ExitStack() as stack:
        home = Path(folder)
        stack.enter_context(embedded.servers(home, report=lambda _: None))
        make_roles(home)
        run("pg_restore", home, "--exit-on-error", "--single-transaction", "--dbname", DATABASE, backup.file)
        platform = Stack(home)
        platform.manage("after_restore")
        platform.start("live", "worker")
        stack.callback(platform.stop)
        yield platform


def make_roles(home: Path, password: str = "secret") -> None:
    """Run the script that the image of PostgreSQL runs on an empty volume."""
    environment = {
        "PATH": f"{postgres_programs()}:{os.environ['PATH']}",
        "PGHOST": str(sockets_dir(home)),
        "POSTGRES_USER": SUPERUSER,
        "POSTGRES_DB": DATABASE,
        "OWNER_DATABASE_PASSWORD": password,
        "APP_DATABASE_PASSWORD": password,
    }
    script = ROOT / "deploy" / "postgres-init.sh"
    done = subprocess.run([script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- What came along ------------------------------------------------------------------------------------------------


def test_every_batch_is_there_as_a_whole_or_not_at_all(backup: Backup, restored: Stack) -> None:
    sql = """
        SELECT status, count(*) FROM executions_taskstatus WHERE flow_execution_id = %s
        GROUP BY status ORDER BY min(position)
    """
    batches = [row for row in rows(restored.data_dir, sql, backup.execution.pk) if row[0].startswith("batch ")]
    assert batches == [(f"batch {number}", len(TASKS)) for number in range(len(batches))]
    assert backup.acknowledged_before <= len(batches) < backup.acknowledged


def test_the_state_of_every_task_is_what_its_history_says(backup: Backup, restored: Stack) -> None:
    sql = """
        SELECT task_name, processing_status, (
            SELECT status FROM executions_taskstatus AS history
            WHERE history.flow_execution_id = output.flow_execution_id AND history.task_name = output.task_name
            ORDER BY position DESC LIMIT 1
        ) FROM executions_taskoutput AS output WHERE flow_execution_id = %s
    """
    states = rows(restored.data_dir, sql, backup.execution.pk)
    assert {task for task, _, _ in states} == {*TASKS}
    assert all(state == newest for _, state, newest in states)


CATALOG = {
    "tables with their storage, rules and rights": """
        SELECT relname, relkind, reloptions, relrowsecurity, relforcerowsecurity, relowner::regrole::text,
               pg_get_expr(relpartbound, oid), ARRAY(
                   SELECT unnest(
                       coalesce(relacl, acldefault((CASE relkind WHEN 'S' THEN 's' ELSE 'r' END)::"char", relowner))
                   )::text
                   ORDER BY 1
               )
        FROM pg_class WHERE relnamespace = 'public'::regnamespace
    """,
    "columns": """
        SELECT attrelid::regclass::text, attname, atttypid::regtype::text, attnotnull, attidentity,
               (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum)
        FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid
        WHERE relnamespace = 'public'::regnamespace AND attnum > 0 AND NOT attisdropped
    """,
    "constraints": """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated FROM pg_constraint
        WHERE connamespace = 'public'::regnamespace
    """,
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "triggers": """
        SELECT pg_get_triggerdef(oid), tgenabled FROM pg_trigger WHERE NOT tgisinternal
    """,
    "functions": """
        SELECT pg_get_functiondef(oid), coalesce(proacl, acldefault('f', proowner))::text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace AND prokind IN ('f', 'p')
    """,
    "policies": "SELECT * FROM pg_policies",
    "rights to what is made later": """
        SELECT defaclrole::regrole::text, defaclobjtype, defaclacl::text FROM pg_default_acl
    """,
}


@pytest.mark.parametrize("kind", CATALOG)
def test_the_rules_of_the_database_came_along(restored: Stack, kind: str) -> None:
    assert catalog(restored.data_dir, kind) == catalog(DATA_DIR, kind)


def catalog(data_dir: Path, kind: str) -> list[str]:
    """Return the rules, without casts and brackets: PostgreSQL sets them otherwise when it reads its own text."""
    return sorted(re.sub(r"::[a-z ]+(\[\])?|[()]", "", repr(row)) for row in rows(data_dir, CATALOG[kind]))


def test_the_history_is_still_in_its_partitions_and_cannot_be_changed(backup: Backup, restored: Stack) -> None:
    sql = "SELECT DISTINCT tableoid::regclass::text FROM executions_taskstatus WHERE flow_execution_id = %s"
    parts = rows(restored.data_dir, sql, backup.execution.pk)
    assert all(part.startswith("executions_taskstatus_2") for (part,) in parts)
    with pytest.raises(psycopg.DatabaseError, match="append-only"):
        rows(restored.data_dir, "UPDATE executions_taskstatus SET status = 'forged' RETURNING 1")


def test_nobody_is_signed_in_any_more(backup: Backup, restored: Stack, django_db_blocker: DjangoDbBlocker) -> None:
    with django_db_blocker.unblock():
        assert Session.objects.exists()  # where it was taken
    assert rows(restored.data_dir, "SELECT count(*) FROM django_session") == [(0,)]


# --- What clients notice --------------------------------------------------------------------------------------------


def test_a_client_that_knows_more_than_the_backup_is_reset_and_converges(backup: Backup, restored: Stack) -> None:
    """It stood at an offset that the restored stream has not reached yet."""

    async def story() -> None:
        query = f"?since={backup.offset}&epoch={backup.epoch}"
        async with watching(restored, backup.execution.flow_id, backup.token, query) as socket:
            hello, reset = await frame_from(socket), await frame_from(socket)
            assert (hello["type"], reset["type"]) == ("hello", "reset")
            assert reset["epoch"] == hello["epoch"] != backup.epoch
            assert reset["offset"] < backup.offset
            states = await asyncio.to_thread(snapshot, restored, backup)  # what reset asks for
            writer = Writer(restored.url, backup.execution.pk, backup.token, first=1_000)
            await asyncio.to_thread(writer.report)
            expected = await asyncio.to_thread(snapshot, restored, backup)
            assert states != expected
            offset = reset["offset"]
            while states != expected:  # before the new event may come one that the backup had without a number
                for event in await events_from(socket, 1):
                    assert event["offset"] == (offset := offset + 1)
                    states |= {item["task_name"]: item["status"] for item in event["data"]["statuses"]}

    asyncio.run(story())


def snapshot(stack: Stack, backup: Backup) -> dict[str, str]:
    """Return the state of every task, as a client fetches it."""
    url = f"{stack.url}/api/task-outputs?flow_execution_id={backup.execution.pk}"
    outputs = httpx.get(url, headers={"Authorization": f"Bearer {backup.token}"}).json()["task_outputs"]
    return {output["task_name"]: output["processing_status"] for output in outputs}


def test_a_client_that_comes_back_when_its_number_was_given_again_is_reset_too(backup: Backup, restored: Stack) -> None:
    """By the number alone it would take other events for those that it has seen."""
    writer = Writer(restored.url, backup.execution.pk, backup.token, first=2_000)
    sql = 'SELECT "offset" FROM notifications_stream WHERE flow_id = %s'

    def is_past() -> bool:
        writer.report()
        return bool(rows(restored.data_dir, sql, backup.execution.flow_id)[0][0] > backup.offset)

    wait_until(is_past, seconds=30, what="the offset of before")

    async def story() -> None:
        query = f"?since={backup.offset}&epoch={backup.epoch}"
        async with watching(restored, backup.execution.flow_id, backup.token, query) as socket:
            assert (await frame_from(socket))["type"] == "hello"
            assert (await frame_from(socket))["type"] == "reset"

    asyncio.run(story())
    url = f"{restored.url}/api/flows/{backup.execution.flow_id}/events"
    asked = {"since": backup.offset, "epoch": backup.epoch}
    answer = httpx.get(url, params=asked, headers={"Authorization": f"Bearer {backup.token}"}).json()
    assert (answer["reset"], answer["events"]) == (True, [])


# --- The roles ------------------------------------------------------------------------------------------------------


def test_the_roles_own_no_more_and_are_above_no_more_than_they_need(restored: Stack) -> None:
    make_roles(restored.data_dir, password="another")  # again: for a database that is there already
    sql = """
        SELECT rolname, rolcanlogin, rolsuper, rolbypassrls, rolcreaterole, rolreplication,
               rolpassword LIKE 'SCRAM-SHA-256%'
        FROM pg_authid WHERE rolname LIKE 'flowplatform%' ORDER BY 1
    """
    no = (False,) * 4
    assert rows(restored.data_dir, sql) == [
        ("flowplatform", True, *no, True),
        ("flowplatform_app", True, *no, True),
        ("flowplatform_application", False, *no, None),
    ]
    member = "SELECT pg_has_role('flowplatform_app', 'flowplatform_application', 'USAGE')"
    assert rows(restored.data_dir, member) == [(True,)]
    owners = "SELECT DISTINCT relowner::regrole::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    assert rows(restored.data_dir, owners) == [("flowplatform",)]


# --- The other way: the files of the server ------------------------------------------------------------------------


def test_a_copy_of_the_running_server_is_whole_and_starts_by_itself(backup: Backup) -> None:
    with TemporaryDirectory(prefix="flowplatform-copy-") as folder:
        home = Path(folder)
        source = Place.of(DATA_DIR)
        account = source.account.popen_arguments()
        os.chown(home, source.account.uid, source.account.gid)
        copy = ["--pgdata", str(home / "postgres"), "--checkpoint", "fast", "--wal-method", "stream"]
        run("pg_basebackup", DATA_DIR, *copy, **account)
        with embedded.servers(home, valkey=False, report=lambda _: None):
            count = "SELECT count(*) FROM executions_taskstatus WHERE flow_execution_id = %s"
            expected = backup.acknowledged * len(TASKS)
            assert rows(home, count, backup.execution.pk) == [(expected,)]
            for kind in CATALOG:
                assert catalog(home, kind) == catalog(DATA_DIR, kind)
