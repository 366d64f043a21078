"""The status history in partitions: rows find their month, old months go, and nobody waits for that."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction
from django.utils import timezone
from pytest_django import Settings
from pytest_django.plugin import DjangoDbBlocker

from executions.history import add_partitions, drop_partitions, partitions
from executions.models import FlowExecution, TaskOutput, TaskStatus
from executions.tasks import keep_history
from flowplatform import monthly, tenancy
from flowplatform.accounts.models import Organization
from flowplatform.audit.authors import Author
from flowplatform.monthly import TableBusyError, month_of
from tests.builders import Api, make_execution, make_flow, make_token, statuses

MAY = datetime(2001, 5, 17, tzinfo=UTC)
INSERT = """
    INSERT INTO executions_taskstatus (uid, organization_id, flow_execution_id, task_name, status, created_at)
    VALUES (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'extract', 'running', %s)
"""
DEFAULT = "executions_taskstatus_default"
TESTS = Author("command:tests")


@pytest.fixture
def scratch(as_owner: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    """A database of its own, with nobody else in it: partitions are made and dropped for good."""
    own, name = connection.settings_dict["NAME"], f"scratch_{uuid4().hex}"
    with django_db_blocker.unblock():
        outside_of_transactions(f"CREATE DATABASE {name}")
        connection.close()
        connection.settings_dict["NAME"] = name
        try:
            call_command("migrate", verbosity=0)
            yield
        finally:
            connection.close()
            connection.settings_dict["NAME"] = own
            outside_of_transactions(f"DROP DATABASE {name} WITH (FORCE)")


def outside_of_transactions(sql: str) -> None:
    with tenancy.showing(tenancy.NOBODY):  # saying whose rows to show would be a transaction around it
        run(sql)


def forget_this_month() -> None:
    """Drop what `drop_partitions` never would: the rows of now."""
    run(f"DROP TABLE {of_month(timezone.now())}")


def run(sql: str, *values: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []


def report(*moments: datetime) -> None:
    """Have history rows of these moments."""
    for moment in moments:
        run(INSERT, moment)


def places() -> list[tuple[str, datetime]]:
    """Return the partition and the moment of every row, in the order of their positions."""
    return run("SELECT tableoid::regclass::text, created_at FROM executions_taskstatus ORDER BY position")


def names() -> list[str]:
    return [partition.name for partition in partitions()]


def of_month(moment: datetime) -> str:
    return f"executions_taskstatus_{moment:%Y_%m}"


@contextmanager
def somebody_else() -> Iterator["psycopg.Connection[Any]"]:
    """Another connection to the database, in a transaction."""
    shown = f"-c {tenancy.SETTING}={tenancy.EVERYBODY}"
    parameters = {**connection.get_connection_params(), "cursor_factory": psycopg.Cursor, "options": shown}
    for ours in ("context", "prepare_threshold"):
        parameters.pop(ours, None)
    with psycopg.connect(**parameters) as other:
        yield other


# --- Where rows go --------------------------------------------------------------------------------------------------


def test_what_is_reported_lands_in_the_partition_of_its_month(organization: Organization) -> None:
    execution = make_execution(make_flow(organization))
    path = f"/api/flow-executions/{execution.pk}/task-status"
    assert Api(make_token(organization)).post(path, statuses(("extract", "running"))).status_code == 200
    [(place, moment)] = places()
    assert place == of_month(month_of(moment))


def test_the_migration_makes_this_month_and_the_next_two(db: None) -> None:
    begin = month_of(timezone.now())
    assert {of_month(begin), of_month(begin + timedelta(days=31)), DEFAULT} <= set(names())


def test_a_row_of_no_month_lands_in_the_default_partition(db: None) -> None:
    report(MAY)
    assert places() == [(DEFAULT, MAY)]


@pytest.mark.parametrize("moment", [MAY.replace(day=1, hour=0), MAY.replace(day=31, hour=23, minute=59)])
def test_the_edges_of_a_month_in_utc_belong_to_it(db: None, moment: datetime) -> None:
    run("SET LOCAL TIME ZONE 'Pacific/Kiritimati'")  # fourteen hours ahead
    add_partitions(now=MAY)
    report(moment)
    assert [place for place, _ in places()] == [of_month(MAY)]


@pytest.mark.parametrize("which", ["of its month, made by the migration", "of its month, made later", "default"])
def test_no_partition_lets_a_row_be_changed(as_owner: None, db: None, which: str) -> None:
    if which == "of its month, made later":
        add_partitions(now=MAY)
    report(timezone.now() if "migration" in which else MAY)
    [(place, _)] = places()
    assert (place == DEFAULT) == (which == "default")
    for table in ("executions_taskstatus", place):
        with pytest.raises(DatabaseError, match="append-only"), transaction.atomic():
            run(f"UPDATE {table} SET status = 'completed'")


# --- Partitions ahead of time ---------------------------------------------------------------------------------------


def test_partitions_are_made_ahead_and_only_once(db: None) -> None:
    made = ["executions_taskstatus_2001_05", "executions_taskstatus_2001_06", "executions_taskstatus_2001_07"]
    assert add_partitions(now=MAY) == made
    assert names()[:3] == made
    assert add_partitions(now=MAY) == []
    assert add_partitions(now=MAY + timedelta(days=31)) == ["executions_taskstatus_2001_08"]


def test_the_year_turns_in_utc(db: None) -> None:
    evening = datetime.fromisoformat("2001-12-31T22:00:00-05:00")
    assert add_partitions(now=evening)[0] == "executions_taskstatus_2002_01"


def test_a_partition_made_later_has_what_those_of_the_migration_have(db: None) -> None:
    add_partitions(now=MAY)

    def shape(table: str) -> list[tuple[Any, ...]]:
        columns = run(f"SELECT attname, atttypid, attnotnull FROM pg_attribute WHERE attrelid = '{table}'::regclass")
        indexes = run(f"SELECT indisprimary, indkey FROM pg_index WHERE indrelid = '{table}'::regclass")
        checks = run(f"SELECT count(*) FROM pg_constraint WHERE conrelid = '{table}'::regclass AND contype = 'c'")
        triggers = run(f"SELECT count(*) FROM pg_trigger WHERE tgrelid = '{table}'::regclass")
        return [*sorted(columns), *sorted(indexes), *checks, *triggers]

    assert shape(of_month(MAY)) == shape(of_month(timezone.now()))
    assert len(run(f"SELECT 1 FROM pg_index WHERE indrelid = '{of_month(MAY)}'::regclass")) == 3


def test_rows_in_the_default_partition_are_moved_to_their_months(db: None) -> None:
    long_ago = datetime(1999, 2, 28, tzinfo=UTC)
    report(MAY, long_ago, MAY + timedelta(hours=1), timezone.now())
    before = run("SELECT * FROM executions_taskstatus ORDER BY position")
    assert "executions_taskstatus_1999_02" in add_partitions(now=MAY)
    assert run("SELECT * FROM executions_taskstatus ORDER BY position") == before
    assert [place for place, _ in places()] == [*map(of_month, (MAY, long_ago, MAY, timezone.now()))]


def test_a_row_that_comes_while_its_month_is_made_is_moved_too(scratch: None) -> None:
    report(MAY)

    def report_meanwhile(execute: Callable[..., Any], sql: str, *rest: Any) -> Any:
        if "'hold_default'" in sql:
            with somebody_else() as other:
                other.execute(INSERT, [MAY + timedelta(days=1)])
        return execute(sql, *rest)

    with connection.execute_wrapper(report_meanwhile):
        add_partitions(now=MAY)
    assert [place for place, _ in places()] == [of_month(MAY)] * 4  # one while each of three months was made


def test_two_at_once_make_every_partition_once(scratch: None) -> None:
    report(*(MAY + timedelta(hours=hour) for hour in range(50)))
    both = Barrier(2)

    def make() -> list[str]:
        try:
            both.wait(10)
            return add_partitions(now=MAY)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        made = [future.result() for future in [pool.submit(make) for _ in range(2)]]
    assert sorted(made[0] + made[1]) == names()[:3]
    assert [place for place, _ in places()] == [of_month(MAY)] * 50


# --- Old months -----------------------------------------------------------------------------------------------------


def test_only_what_is_wholly_older_is_dropped(db: None) -> None:
    add_partitions(now=MAY)
    report(MAY, MAY + timedelta(days=31))
    older = datetime(1990, 1, 1, tzinfo=UTC)
    report(older)  # in the default partition: not dropped with the others
    gone = list(drop_partitions(datetime(2001, 6, 30, 23, 59, tzinfo=UTC), author=TESTS))
    assert [partition.name for partition in gone] == ["executions_taskstatus_2001_05"]
    assert places() == [(of_month(MAY + timedelta(days=31)), MAY + timedelta(days=31)), (DEFAULT, older)]
    assert [each.name for each in drop_partitions(datetime(2001, 7, 1, tzinfo=UTC), author=TESTS)] == [
        "executions_taskstatus_2001_06"
    ]


@pytest.mark.parametrize(("days", "is_kept"), [(0, True), (100_000, True), (365, False)])
def test_the_beat_drops_what_is_older_than_the_setting(db: None, settings: Settings, days: int, is_kept: bool) -> None:
    settings.HISTORY_RETENTION_DAYS = days
    report(MAY, timezone.now())
    keep_history()
    kept = [of_month(MAY)] if is_kept else []
    assert [place for place, _ in places()] == [*kept, of_month(timezone.now())]
    assert names()[-1] == DEFAULT


def test_the_state_of_tasks_outlives_their_history(as_owner: None, organization: Organization) -> None:
    execution = make_execution(make_flow(organization))
    worker = Api(make_token(organization))
    path = f"/api/flow-executions/{execution.pk}/task-status"
    worker.post(path, statuses(("extract", "completed"), ("classify", "running")))
    forget_this_month()
    assert worker.get(path).json() == {"statuses": [], "next_cursor": None}
    outputs = worker.get(f"/api/task-outputs?flow_execution_id={execution.pk}").json()["task_outputs"]
    assert {row["task_name"]: row["processing_status"] for row in outputs} == {
        "extract": "completed",
        "classify": "running",
    }
    assert worker.post(path, statuses(("classify", "completed"))).status_code == 200
    assert [row["status"] for row in worker.get(path).json()["statuses"]] == ["completed"]
    assert TaskOutput.objects.get(flow_execution=execution, task_name="classify").processing_status == "completed"


def test_a_task_without_history_left_follows_its_attempts(as_owner: None, organization: Organization) -> None:
    execution = make_execution(make_flow(organization))
    worker = Api(make_token(organization))
    worker.post(f"/api/flow-executions/{execution.pk}/task-status", statuses(("extract", "completed")))
    attempt = {"flow_execution_id": str(execution.pk), "task_name": "extract", "task_execution_idx": 0}
    worker.post("/api/task-executions", {**attempt, "processing_status": "running"})
    assert TaskOutput.objects.get(flow_execution=execution).processing_status == "completed"
    forget_this_month()
    worker.post("/api/task-executions", {**attempt, "processing_status": "failed"})
    assert TaskOutput.objects.get(flow_execution=execution).processing_status == "failed"


def test_positions_go_on_after_everything_was_dropped(as_owner: None, db: None) -> None:
    report(timezone.now())
    last = TaskStatus.objects.get().position
    forget_this_month()
    add_partitions()
    report(timezone.now())
    assert TaskStatus.objects.get().position == last + 1


def test_whoever_uses_the_history_for_long_is_left_alone_and_reports_go_on(
    scratch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monthly, "ATTEMPTS", 3)
    add_partitions(now=MAY)
    before = names()
    with somebody_else() as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("SELECT count(*) FROM executions_taskstatus")

        def drop() -> None:
            try:
                list(drop_partitions(datetime(2001, 6, 1, tzinfo=UTC), author=TESTS))
            finally:
                connection.close()

        dropping = pool.submit(drop)
        reported = 0
        while not dropping.done():
            with somebody_else() as worker:
                worker.execute("SET LOCAL lock_timeout = '1s'")
                worker.execute(INSERT, [timezone.now()])
            reported += 1
        with pytest.raises(TableBusyError):
            dropping.result()
    assert names() == before
    assert reported > 3
    assert [each.name for each in drop_partitions(datetime(2001, 6, 1, tzinfo=UTC), author=TESTS)] == [of_month(MAY)]


# --- The command ----------------------------------------------------------------------------------------------------


def test_the_command_says_what_it_would_drop_and_then_drops_it(
    as_owner: None, db: None, capsys: pytest.CaptureFixture[str]
) -> None:
    add_partitions(now=MAY)
    report(MAY, MAY)
    run(f"ANALYZE {of_month(MAY)}")
    call_command("drop_history", "--before", "2001-06-15", "--dry-run")
    told = capsys.readouterr().out
    assert told.startswith("would drop executions_taskstatus_2001_05: about 2 rows, ")
    assert told.count("\n") == 1
    assert of_month(MAY) in names()
    call_command("drop_history", "--before", "2001-06-15")
    assert capsys.readouterr().out == told.replace("would drop", "dropped")
    assert of_month(MAY) not in names()
    call_command("drop_history", "--before", "2001-06-15")
    assert capsys.readouterr().out == "No month of the history lies wholly before 2001-06-15.\n"


@pytest.mark.parametrize("day", ["2100-01-01", "yesterday", ""])
def test_the_command_refuses_a_day_that_is_none_or_to_come(db: None, day: str) -> None:
    before = names()
    with pytest.raises(CommandError, match="day"):
        call_command("drop_history", "--before", day)
    assert names() == before


# --- The migration --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_migration_takes_the_history_along_in_both_directions(scratch: None) -> None:
    call_command("migrate", "executions", "0004", verbosity=0)
    moments = [datetime(2025, 12, 31, 23, 59, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC), timezone.now()]
    report(*moments, timezone.now())
    run("DELETE FROM executions_taskstatus WHERE position = 4")  # the sequence is ahead of the rows
    before = run("SELECT * FROM executions_taskstatus ORDER BY position")
    call_command("migrate", "executions", verbosity=0)
    assert run("SELECT * FROM executions_taskstatus ORDER BY position") == before
    assert [place for place, _ in places()] == [of_month(moment) for moment in moments]
    report(timezone.now())
    assert TaskStatus.objects.latest("position").position == 5
    call_command("migrate", "executions", "0004", verbosity=0)
    assert run("SELECT * FROM executions_taskstatus ORDER BY position LIMIT 3") == before
    report(timezone.now())
    assert TaskStatus.objects.latest("position").position == 6
    with pytest.raises(DatabaseError, match="append-only"):
        run("UPDATE executions_taskstatus SET status = 'completed'")
    call_command("migrate", "executions", verbosity=0)
    assert FlowExecution.objects.count() == 0
    assert TaskStatus.objects.count() == 5
