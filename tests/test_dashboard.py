"""The first page of the admin: its numbers are those of the rows, its questions are bounded, its parts fail alone."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import redis
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from executions.models import FlowExecution
from flowplatform import dashboard
from flowplatform.accounts.models import Organization, ServiceToken, User
from flowplatform.dashboard import DAY, HOUR, SAMPLE, Plot
from notifications import lag
from notifications.lag import LagLine, LagMeter
from tests.builders import make_execution, make_flow, make_organization, make_token
from tests.test_admin import staff_who_may
from tests.test_plans import nodes, plans, table_of

pytestmark = pytest.mark.usefixtures("as_owner")  # before everything that is in a transaction

NOON = datetime(2031, 5, 6, 12, 0, 30, tzinfo=UTC)  # no other test's rows are of that time


@pytest.fixture
def staff(db: None) -> Client:
    client = Client()
    client.force_login(User.objects.create(username="staff", is_staff=True, is_superuser=True))
    return client


@pytest.fixture
def empty(db: None) -> None:
    """No history but that of the test, which is rolled back with it."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM executions_taskstatus")


def report(execution: FlowExecution, task: str, *steps: tuple[str, datetime]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO executions_taskstatus (uid, organization_id, flow_execution_id, task_name, status, created_at)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [(uuid4(), execution.organization_id, execution.pk, task, status, when) for status, when in steps],
        )


def run_of(organization: Organization) -> FlowExecution:
    return make_execution(make_flow(organization))


def ago(**delta: float) -> datetime:
    return NOON - timedelta(**delta)


def values(plot: Plot, line: int = 0) -> dict[str, float]:
    """Return what a plot shows, by hour and minute; zeros and what is not known are left out."""
    pairs = zip(plot.times, plot.series[line].values, strict=True)
    return {f"{time:%H:%M}": value for time, value in pairs if value}


# --- Statuses ------------------------------------------------------------------------------------------------------


def test_the_statuses_of_every_minute_are_counted_over_all_organizations(
    organization: Organization, empty: None
) -> None:
    ours, theirs = run_of(organization), run_of(make_organization())
    report(ours, "extract", ("running", ago(minutes=5)), ("failed", ago(minutes=5)), ("running", ago(minutes=2)))
    report(theirs, "extract", ("error", ago(minutes=5)), ("completed", ago(minutes=59)), ("failed", ago(minutes=90)))
    statuses, failures = dashboard.status_plots(HOUR, NOON)
    assert values(statuses) == {"11:55": 3, "11:58": 1, "11:01": 1}
    assert values(failures) == {"11:55": 2}
    assert len(statuses.times) == 60
    assert [time for time, _ in statuses.rows()] == sorted((time for time, _ in statuses.rows()), reverse=True)
    assert "Failures: at most 2 per minute" in failures.summary()


def test_a_day_is_shown_as_the_mean_of_quarters_of_an_hour(organization: Organization, empty: None) -> None:
    run = run_of(organization)
    for minute in range(15):
        report(run, "extract", *[("running", ago(hours=5, minutes=minute + 1))] * 3)
    report(run, "extract", ("failed", ago(hours=23)), ("failed", ago(hours=25)))
    statuses, failures = dashboard.status_plots(DAY, NOON)
    assert values(statuses)["06:45"] == 3
    assert values(failures) == {"13:00": 0.07}
    assert len(statuses.times) == 96


def test_what_lies_before_the_sample_is_said_to_be_unknown_and_not_shown_as_nothing(
    organization: Organization, empty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "SAMPLE", 4)
    run = run_of(organization)
    report(run, "extract", *[("running", ago(minutes=minute)) for minute in (30, 20, 9, 8, 7, 6)])
    statuses, _ = dashboard.status_plots(HOUR, NOON)
    assert values(statuses) == {"11:51": 1, "11:52": 1, "11:53": 1, "11:54": 1}
    assert statuses.series[0].values[0] is None
    assert "begin at 11:51 UTC" in statuses.note


# --- Organizations -------------------------------------------------------------------------------------------------


def test_organizations_are_ordered_by_how_long_their_tasks_ran(organization: Organization, empty: None) -> None:
    slow = make_organization()
    fast_run, slow_run = run_of(organization), run_of(slow)
    for seconds in range(1, 21):
        begin = ago(hours=1, minutes=seconds)
        report(fast_run, f"task-{seconds}", ("running", begin), ("completed", begin + timedelta(seconds=1)))
        report(slow_run, f"task-{seconds}", ("running", begin), ("failed", begin + timedelta(seconds=seconds)))
    report(slow_run, "still", ("queued", ago(hours=3)), ("running", ago(hours=2)))
    first, second = dashboard.slowest_organizations(NOON - timedelta(days=1))
    assert (first.name, first.runs, first.median) == (slow.name, 20, 10.5)
    assert first.p95 == pytest.approx(19.05)
    assert (second.name, second.runs, second.median, second.p95) == (organization.name, 20, 1.0, 1.0)
    assert str(slow.pk) in first.address
    assert dashboard.slowest_organizations(NOON) == []


# --- Delivery ------------------------------------------------------------------------------------------------------


def minute_of(time: datetime) -> int:
    return int(time.timestamp() // 60)


def test_the_lag_and_the_backlog_of_several_workers_come_together(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        LagLine(minute_of(ago(minutes=3)), events=10, total=100.0, longest=40.0, waiting=2, oldest=5.0),
        LagLine(minute_of(ago(minutes=3)), events=30, total=900.0, longest=90.0, waiting=7, oldest=5.0),
        LagLine(minute_of(ago(minutes=2)), events=0, total=0.0, longest=0.0, waiting=1, oldest=5.0),
    ]
    monkeypatch.setattr(dashboard, "read_lines", lambda: lines)
    backlog, relay_lag = dashboard.delivery_plots(HOUR, NOON)
    assert values(backlog) == {"11:57": 7, "11:58": 1}
    assert values(relay_lag, 0) == {"11:57": 90.0}
    assert values(relay_lag, 1) == {"11:57": 25.0}


def test_a_worker_leaves_a_line_of_every_minute(db: None) -> None:
    now = [6_000.0]
    written: list[LagLine] = []
    meter = LagMeter(written.append, clock=lambda: now[0])
    event = (1, "x", None, timezone.now() - timedelta(seconds=2), "{}")
    meter.note({uuid4(): [event, event]})
    meter.flush()
    assert not written
    now[0] += 60
    meter.flush()
    meter.flush()
    (line,) = written
    assert (line.minute, line.events) == (100, 2)
    assert 2_000 <= line.longest < 4_000
    assert line.total == pytest.approx(2 * line.longest, rel=0.01)


def test_lines_are_kept_in_valkey_and_a_lost_one_holds_nothing_up(db: None, settings: Settings) -> None:
    line = LagLine(1, 2, 3.0, 4.0, 5, 6.0)
    lag.write_line(line)
    assert lag.read_lines()[-1] == line
    with redis.Redis.from_url(settings.REDIS_URL) as client:
        client.rpush(lag.KEY, b"no line", b"[]", b'{"minute": "x"}', b'{"minute": 2}', b"\xff")
    assert lag.read_lines()[-1] == line

    def refuse(line: LagLine) -> None:
        raise redis.ConnectionError("away")

    now = [0.0]
    meter = LagMeter(refuse, clock=lambda: now[0])
    now[0] = 60.0
    meter.flush()


# --- Tokens --------------------------------------------------------------------------------------------------------


def test_tokens_that_end_soon_and_unused_ones_are_named(organization: Organization) -> None:
    def token(**facts: Any) -> str:
        prefix = make_token(organization, expires_in=facts.pop("expires_in", None))[:8]
        ServiceToken.objects.filter(prefix=prefix).update(**facts)
        return prefix

    ServiceToken.objects.update(revoked=True)
    soon = token(expires_in=timedelta(days=3), last_used_at=timezone.now())
    unused = token(last_used_at=None, created=timezone.now() - timedelta(days=5))
    token(expires_in=timedelta(days=30), last_used_at=timezone.now())
    token(expires_in=timedelta(days=1), revoked=True)
    token(expiry_date=timezone.now() - timedelta(days=1), last_used_at=None)
    found = dashboard.tokens_to_look_at(timezone.now())
    assert [(note.token.prefix, note.why) for note in found["ending"]] == [(soon, "ends in 3 days")]
    assert [(note.token.prefix, note.why) for note in found["unused"]] == [(unused, "made 5 days ago, never used")]


# --- The page ------------------------------------------------------------------------------------------------------


def test_the_page_shows_every_part_and_a_table_beside_every_plot(staff: Client, organization: Organization) -> None:
    for window in ("", "?window=day", "?window=nonsense"):
        page = staff.get(f"/admin/{window}").content.decode()
        plots = re.findall(r'<canvas role="img" aria-label="([^"]+)" data-plot="(\w+)"', page)
        assert [name for _, name in plots] == ["statuses", "failures", "backlog", "lag"]
        assert page.count("<summary>As a table</summary>") == 4
        for _, name in plots:
            assert f'<script id="{name}" type="application/json">' in page
        assert f"newest {SAMPLE:,} statuses" in page


def test_people_see_the_parts_that_their_permissions_name(organization: Organization) -> None:
    page = staff_who_may("view_servicetoken").get("/admin/").content.decode()
    assert "Tokens to look at" in page
    for hidden in ("Slowest organizations", "data-plot", "for a number"):
        assert hidden not in page


def test_a_part_that_fails_leaves_the_others(
    staff: Client, organization: Organization, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(dashboard, "_SLOWEST", "SELECT pg_sleep(9)")
    monkeypatch.setattr(dashboard, "PART_MILLISECONDS", 1_000)
    settings.REDIS_URL = "redis://127.0.0.1:1"
    page = staff.get("/admin/").content.decode()
    assert page.count("This part did not answer in time") == 2
    assert 'data-plot="statuses"' in page
    assert 'data-plot="lag"' not in page
    assert "Tokens to look at" in page
    assert staff.get("/admin/executions/taskstatus/").status_code == 200  # the connection is as good as before


@pytest.fixture
def filled(organization: Organization) -> None:
    """A history that is longer than the sample by far."""
    run = run_of(organization)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO executions_taskstatus (uid, organization_id, flow_execution_id, task_name, status, created_at)"
            " SELECT gen_random_uuid(), %s, %s, 'task-' || i %% 100, 'running', now() FROM generate_series(1, 60000) i",
            [run.organization_id, run.pk],
        )
        cursor.execute("ANALYZE executions_taskstatus")


def test_the_history_is_read_from_its_end_by_an_index_and_no_further_than_the_sample(
    staff: Client, filled: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "SAMPLE", 1_000)
    with plans() as found:
        assert staff.get("/admin/").status_code == 200
    of_history = [plan for plan in found if any(table_of(node) == "executions_taskstatus" for node in nodes(plan))]
    assert len(of_history) == 2
    for plan in of_history:
        (limit,) = [node for node in nodes(plan) if node["Node Type"] == "Limit" and node["Plan Rows"] == 1_000]
        read = [node for node in nodes(limit) if table_of(node) == "executions_taskstatus"]
        assert read
        assert {node["Node Type"] for node in read} == {"Index Scan"}, limit
        assert not [node for node in nodes(limit) if node["Node Type"] == "Sort"], limit
