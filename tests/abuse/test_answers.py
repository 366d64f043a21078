"""Clients that ask for much and read little of it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import closing
from dataclasses import dataclass

import httpx
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from pytest_django.plugin import DjangoDbBlocker

from executions.models import FlowExecution
from flowplatform.bodies import READER_SECONDS
from tests.abuse.attack import head
from tests.abuse.stage import SERVERS, Stage
from tests.abuse.wire import HOST
from tests.builders import make_execution, make_flow, make_member, make_organization

ROWS = 25_000  # of more than three hundred bytes each
FLAT_MIB = 4  # half of that, and more than a server gathers for one client

pytestmark = [pytest.mark.usefixtures("committed"), pytest.mark.parametrize("server", SERVERS)]


@dataclass(frozen=True)
class Export:
    """A long file, and the cookie of somebody who may have it."""

    path: str
    cookie: str


@pytest.fixture(scope="module")
def export(stage: Stage, django_db_blocker: DjangoDbBlocker) -> Export:
    with django_db_blocker.unblock():
        organization = make_organization("reader")
        execution = make_execution(make_flow(organization))
        _report(execution)
        client = Client()
        client.force_login(make_member(organization))
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
    return Export(f"/executions/{execution.pk}/history.csv", f"{settings.SESSION_COOKIE_NAME}={session}")


def _report(execution: FlowExecution) -> None:
    """Write a long history, faster than by asking for it."""
    written = "(uid, organization_id, flow_execution_id, task_name, status, created_at)"
    values = "gen_random_uuid(), %s, %s, repeat('x', 250), 'running', now()"
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO executions_taskstatus {written} SELECT {values} FROM generate_series(1, %s)",
            [execution.organization_id, execution.pk, ROWS],
        )
        cursor.execute("ANALYZE executions_taskstatus")


def test_a_long_answer_arrives_whole(server: str, stage: Stage, export: Export) -> None:
    _, scene, _ = stage.server(server)
    answer = httpx.get(f"http://{HOST}:{scene.port}{export.path}", headers={"Cookie": export.cookie}, timeout=60)
    assert (answer.status_code, answer.text.count("\n")) == (200, ROWS + 1)


def test_who_asks_and_does_not_read_costs_no_memory_and_holds_nobody_up(
    server: str, stage: Stage, export: Export
) -> None:
    target, scene, bystander = stage.server(server)
    before, begin = target.memory(), time.monotonic()
    with closing(_asked(scene.port, export)):
        time.sleep(2)
        assert target.memory() - before < FLAT_MIB
    asked = bystander.during(begin)
    assert asked
    assert {each.status for each in asked} == {200}


def test_who_asks_and_goes_leaves_nothing_behind(server: str, stage: Stage, export: Export) -> None:
    _, scene, _ = stage.server(server)
    for _ in range(10):
        _asked(scene.port, export).close()
    begin = time.monotonic()
    answer = httpx.get(f"http://{HOST}:{scene.port}/login/", timeout=READER_SECONDS)
    assert (answer.status_code, time.monotonic() - begin < READER_SECONDS / 2) == (200, True)


def _asked(port: int, export: Export) -> socket.socket:
    """Ask on a connection that takes little at a time, and leave the answer there."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
    client.connect((HOST, port))
    client.sendall(head("GET", export.path, f"Cookie: {export.cookie}"))
    return client


@pytest.mark.parametrize("coding", ["with a length", "in chunks"])
def test_whoever_sends_too_much_reads_that_it_is_too_much(server: str, stage: Stage, coding: str) -> None:
    """Not that the connection broke: a client that writes on does not read before it has written."""
    _, scene, _ = stage.server(server)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 10_000

    async def story() -> list[int]:
        async with httpx.AsyncClient(base_url=f"http://{HOST}:{scene.port}") as client:
            contents = [b"x" * 2_000_000 if coding == "with a length" else pieces() for _ in range(15)]
            return [(await client.post("/api/flow-executions", content=one)).status_code for one in contents]

    assert set(asyncio.run(story())) == {413}
