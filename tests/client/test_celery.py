"""A Celery app on real workers shows up on the real server, and nothing in its tasks knows of it."""

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from celery import chain, chord, group
from celery.result import AsyncResult
from django.conf import settings
from flowplatform_client import FlowPlatform
from flowplatform_client.integrations import celery as integration
from pytest_django.plugin import DjangoDbBlocker

from executions.models import FlowExecution
from flowplatform.accounts.models import Organization
from tests.builders import make_organization, make_token
from tests.client.reporting import Way, way_to
from tests.client.shown import Shown
from tests.conftest import Platform
from tests.stack import ROOT, free_port, wait_until

MODULE = "tests.client.shop."
BROKER_DATABASE, RESULTS_DATABASE = 3, 4  # the platform has those up to 2


Send = Callable[..., tuple[Shown, AsyncResult]]


@pytest.fixture(scope="module")
def organization(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Organization]:
    with django_db_blocker.unblock():
        yield make_organization()


@pytest.fixture(scope="module")
def token(organization: Organization) -> str:
    return make_token(organization)


@pytest.fixture(scope="module")
def shop() -> Iterator[ModuleType]:
    """The app in this process, which sends the tasks and waits for results."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in shop_variables().items():
            patch.setenv(name, value)
        yield importlib.import_module("tests.client.shop")


def shop_variables(queue: str = "prefork") -> dict[str, str]:
    return {
        "SHOP_BROKER": settings.CELERY_BROKER_URL.replace("virtual_host=0", f"virtual_host={BROKER_DATABASE}"),
        "SHOP_RESULTS": settings.CELERY_BROKER_URL.replace("virtual_host=0", f"virtual_host={RESULTS_DATABASE}"),
        "SHOP_QUEUE": queue,
    }


@pytest.fixture(scope="module")
def way(platform: Platform) -> Iterator[Way]:
    """The way that workers report on."""
    with way_to(platform.port) as found:
        yield found


@pytest.fixture(scope="module")
def workers(way: Way, token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], None]]:
    """Start a worker with a pool, once, that works on the queue of this name."""
    folder = tmp_path_factory.mktemp("workers")
    variables = {
        "FLOWPLATFORM_URL": way.url,
        "FLOWPLATFORM_TOKEN": token,
        "FLOWPLATFORM_SPOOL": str(folder / "spool"),
    }
    started: dict[str, subprocess.Popen[bytes]] = {}

    def start(pool: str) -> None:
        if pool not in started:
            started[pool] = start_worker(pool, variables, folder / f"{pool}.log")

    yield start
    for worker in started.values():
        worker.send_signal(signal.SIGTERM)
    for worker in started.values():
        worker.wait(15)
    assert "could not be reported" not in "".join(log.read_text() for log in folder.glob("*.log"))


def start_worker(pool: str, variables: dict[str, str], log: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "client" / "src"), **shop_variables(pool), **variables}
    del environment["DJANGO_SETTINGS_MODULE"]  # for which Celery would load Django
    command = ["celery", "-A", "tests.client.shop", "worker", "--pool", pool, "--concurrency", "2", "--hostname", pool]
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    with log.open("wb") as out:
        return subprocess.Popen(
            [sys.executable, "-m", *command, *quiet],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def reported(shop: ModuleType, platform: Platform, token: str) -> Iterator[None]:
    with FlowPlatform(platform.url, token) as client:
        reporting = integration.report(shop.app, platform=client)
        yield
        reporting.close()


@pytest.fixture
def send(organization: Organization, reported: None, workers: Callable[[str], None]) -> Send:
    """Send something, and return what the platform shows of it, and Celery's result."""

    def _send(canvas: Any, pool: str = "prefork", **options: Any) -> tuple[Shown, AsyncResult]:
        workers(pool)
        result = canvas.apply_async(queue=pool, **options)
        return newest(organization), result

    return _send


def newest(organization: Organization) -> Shown:
    return Shown(FlowExecution.objects.filter(organization=organization).latest("created_at"), MODULE)


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_chord_with_retries_shows_up_with_the_right_states(pool: str, shop: ModuleType, send: Send) -> None:
    lines = [shop.fetch.s(order) | shop.price.s(failures=order) for order in range(3)]
    run, result = send(chord(lines, shop.total.s() | shop.send.s()), pool)
    run.ends()
    assert run.waits == {
        "fetch": [],
        "price": ["fetch"],
        "fetch 2": [],
        "price 2": ["fetch 2"],
        "fetch 3": [],
        "price 3": ["fetch 3"],
        "total": ["price", "price 2", "price 3"],
        "send": ["total"],
    }
    # The processes of a worker report side by side: an earlier attempt may be told of after the last one.
    wait_until(lambda: [len(run.attempts(task)) for task in ("price", "price 2", "price 3", "send")] == [1, 2, 3, 1])
    ends = ["retried", "retried", "completed"]
    wait_until(lambda: [one.processing_status for one in run.attempts("price 3")] == ends)
    first, second, third = run.attempts("price 3")
    assert first.started_at < second.started_at < third.started_at < third.completed_at
    assert first.error["type"] == "ConnectionError"
    assert first.error["message"] == "no price of 2 yet"
    assert "raise self.retry(" in first.error["traceback"]
    assert third.error is None
    assert third.output == 20
    assert third.input == {
        "task_id": first.input["task_id"],
        "worker": f"celery@{pool}",
        "args": [2],
        "kwargs": {"failures": 2},
    }
    assert run.execution.flow.display_name == "fetch | price | total | send"
    assert run.execution.input == {"celery_app": "shop"}
    assert result.get(60) == "sent 30"


def test_a_group_runs_as_long_as_one_of_its_tasks(shop: ModuleType, send: Send) -> None:
    run, result = send(group(shop.fetch.s(1), shop.linger.s(0.6), shop.fetch.s(3) | shop.price.s()))
    wait_until(lambda: run.status == "running")
    run.ends()
    assert run.waits == {"fetch": [], "linger": [], "fetch 2": [], "price": ["fetch 2"]}
    assert result.get(60) == [1, 0.6, 30]


def test_a_task_alone_is_a_run_and_its_callbacks_wait_for_it(shop: ModuleType, send: Send) -> None:
    run, result = send(shop.fetch, args=(4,), link=[shop.price.s(), shop.price.s() | shop.send.s()])
    run.ends()
    assert run.waits == {"fetch": [], "price": ["fetch"], "price 2": ["fetch"], "send": ["price 2"]}
    assert result.get(60) == 4


def test_tasks_can_be_sent_by_name(shop: ModuleType, send: Send, organization: Organization) -> None:
    shop.app.send_task("tests.client.shop.fetch", (1,), queue="prefork")
    newest(organization).ends()


def test_nested_canvases_are_tasks_that_wait_for_each_other(shop: ModuleType, send: Send) -> None:
    canvas = chain(
        shop.fetch.s(1),
        group(shop.price.s(), chord([shop.price.s(), shop.price.s()], shop.total.s())),
        shop.total.s(),
        group(shop.send.s(), shop.send.s()),
    )
    run, result = send(canvas)
    run.ends()
    assert run.waits == {
        "fetch": [],
        "price": ["fetch"],
        "price 2": ["fetch"],
        "price 3": ["fetch"],
        "total": ["price 2", "price 3"],
        "total 2": ["price", "total"],
        "send": ["total 2"],
        "send 2": ["total 2"],
    }
    assert result.get(60) == ["sent 30", "sent 30"]


def test_a_canvas_is_a_version_of_its_flow_and_the_same_shape_the_same(shop: ModuleType, send: Send) -> None:
    fan = [group(shop.linger.s(0) for _ in range(count)) for count in (2, 3)]
    runs = [send(canvas)[0] for canvas in (fan[0], fan[0], fan[1], fan[0], shop.linger.s(0))]
    for run in runs:
        run.ends()
    assert [run.execution.flow_version for run in runs] == [1, 1, 2, 3, 4]
    assert len({run.execution.flow_id for run in runs}) == 1
    assert runs[2].waits == {"linger": [], "linger 2": [], "linger 3": []}


def test_what_waits_for_a_task_that_failed_is_skipped(shop: ModuleType, send: Send) -> None:
    header = [shop.fetch.s(1), shop.refuse.s(2) | shop.price.s()]
    run, _ = send(chord(header, shop.total.s() | shop.send.s()))
    run.ends("failed", "failed", "completed", "skipped")
    assert run.states == {
        "fetch": "completed",
        "refuse": "failed",
        "price": "skipped",
        "total": "skipped",
        "send": "skipped",
    }
    [failed] = run.attempts("refuse")
    assert failed.error["type"] == "ValueError"
    assert failed.error["message"] == "order 2 is empty"
    assert 'raise ValueError(f"order {order} is empty")' in failed.error["traceback"]


def test_a_task_that_gives_up_its_retries_has_failed(shop: ModuleType, send: Send) -> None:
    run, _ = send(shop.price.s(1, failures=9))
    run.ends("failed")
    ends = ["retried", "retried", "retried", "failed"]
    wait_until(lambda: [one.processing_status for one in run.attempts("price")] == ends)


def test_a_task_whose_process_was_killed_has_failed(shop: ModuleType, send: Send) -> None:
    run, _ = send(shop.die.s(1) | shop.price.s())
    run.ends("failed", "failed", "skipped")
    [lost] = run.attempts("die")
    assert lost.error["type"] == "billiard.exceptions.WorkerLostError"


def test_a_revoked_task_is_cancelled_with_what_follows(shop: ModuleType, send: Send) -> None:
    run, result = send(shop.linger.s(30) | shop.price.s())
    wait_until(lambda: run.states["linger"] == "running")
    result.parent.revoke(terminate=True)
    run.ends("cancelled", "cancelled", "skipped")
    assert run.attempts("linger")[0].error["message"] == "terminated"


def test_a_task_that_replaces_itself_lasts_until_its_replacement_has_ended(shop: ModuleType, send: Send) -> None:
    run, result = send(shop.split.s(2) | shop.send.s())
    run.ends()
    assert run.waits == {"split": [], "send": ["split"]}
    assert [one.output for one in run.attempts("split")] == [4]
    assert result.get(60) == "sent 4"


def test_a_replacement_of_which_a_part_fails_is_a_failure(shop: ModuleType, send: Send) -> None:
    run, _ = send(shop.split_in_vain.s(2) | shop.send.s())
    run.ends("failed", "failed", "skipped")
    assert run.states == {"split_in_vain": "failed", "send": "skipped"}
    assert run.attempts("split_in_vain")[-1].error["message"] == "order 2 is empty"


def test_a_canvas_that_a_task_sends_is_a_run_of_its_own(
    shop: ModuleType, send: Send, organization: Organization
) -> None:
    run, _ = send(shop.hand_over.s(1))
    run.ends()
    wait_until(lambda: newest(organization).execution.pk != run.execution.pk)
    sent = newest(organization)
    sent.ends()
    assert sent.waits == {"fetch": [], "price": ["fetch"]}
    assert sent.execution.input == {
        "celery_app": "shop",
        "sent_by": {"execution_id": str(run.execution.pk), "task": f"{MODULE}hand_over"},
    }


def test_a_platform_that_is_away_while_tasks_run_is_told_later(shop: ModuleType, send: Send, way: Way) -> None:
    send(shop.fetch.s(1))[0].ends()
    way.turn("refuse")
    lines = [shop.fetch.s(order) | shop.price.s(failures=order) for order in range(3)]
    run, result = send(chord(lines, shop.total.s()))
    failing, _ = send(group(shop.fetch.s(1), shop.refuse.s(2) | shop.price.s()))
    assert result.get(60) == 30
    assert set(run.states.values()) == {None}
    way.turn("pass")
    run.ends()
    wait_until(lambda: [len(run.attempts(task)) for task in ("price", "price 2", "price 3")] == [1, 2, 3])
    failing.ends("failed", "completed", "failed", "skipped")


def test_without_a_platform_everything_works_and_nothing_waits_long(
    shop: ModuleType, send: Send, organization: Organization, caplog: pytest.LogCaptureFixture
) -> None:
    send(shop.fetch.s(1))[0].ends()
    last = newest(organization).execution.pk
    other = importlib.util.module_from_spec(shop.__spec__)
    shop.__spec__.loader.exec_module(other)
    nobody = FlowPlatform(f"http://127.0.0.1:{free_port()}", "token")
    reporting = integration.report(other.app, platform=nobody, patience_seconds=5)
    begin = time.monotonic()
    results = [
        chord([other.fetch.s(1), other.fetch.s(order)], other.total.s()).apply_async(queue="prefork")
        for order in range(20)
    ]
    assert time.monotonic() - begin < 30  # one patience, not twenty
    assert [result.get(60) for result in results] == [order + 1 for order in range(20)]
    reporting.close()
    assert newest(organization).execution.pk == last
    assert caplog.text.count("runs are not shown for the next 30 s") == 1


def test_the_flow_may_be_named_and_some_runs_not_shown(
    shop: ModuleType, send: Send, organization: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporting = integration._reporting_of(shop.app)
    monkeypatch.setattr(reporting, "_flow", lambda sent: "Prices" if sent.task.endswith("price") else None)
    run, _ = send(shop.price.s(1))
    hidden = [
        send(shop.fetch.s(1)),
        send(chord([shop.price.s(1), shop.fetch.s(2) | shop.price.s()], shop.total.s())),
        send(shop.fetch.s(1) | group(shop.price.s(), shop.fetch.s())),  # of which the worker sends the group
    ]
    assert [result.get(60) for _, result in hidden] == [1, 30, [10, 1]]
    run.ends()
    assert newest(organization).execution.pk == run.execution.pk
    assert run.execution.flow.display_name == "Prices"
