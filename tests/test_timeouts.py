"""Nothing is waited for without an end."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
from django.db import OperationalError, close_old_connections, connection
from pytest_django import Settings

from flowplatform.accounts.models import Organization
from flowplatform.errors import is_unavailable
from tests.builders import Api, error_of, make_organization, make_token

pytestmark = pytest.mark.usefixtures("committed")


def query(sql: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


@contextmanager
def silent_backend() -> Iterator[None]:
    """Have the server's end of our connection stand still: it keeps the line, and says nothing."""
    pid = int(str(query("SELECT pg_backend_pid()")))
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def impatient(settings: Settings) -> None:
    settings.DATABASE_ANSWER_SECONDS = 1


@pytest.mark.usefixtures("impatient")
def test_a_database_that_says_nothing_at_all_is_given_up_and_asked_anew() -> None:
    with silent_backend():
        begin = time.monotonic()
        with pytest.raises(OperationalError) as raised:
            query("SELECT 1")
        assert 1 <= time.monotonic() - begin < 3
        assert is_unavailable(raised.value)
        close_old_connections()
        assert query("SELECT 2") == 2


@pytest.mark.usefixtures("impatient")
def test_a_request_to_a_silent_database_is_503_and_the_next_one_is_served() -> None:
    api = Api(make_token(make_organization(f"silent-{uuid4().hex}")))
    assert api.get("/api/flows").status_code == 200
    with silent_backend():
        answer = api.get("/api/flows")
        assert (answer.status_code, error_of(answer)["code"]) == (503, "unavailable")
        assert int(answer["Retry-After"]) > 0
        close_old_connections()  # as every server does between two requests, and the test client does not
        assert api.get("/api/flows").status_code == 200
    assert Organization.objects.exists()


@pytest.mark.usefixtures("impatient")
def test_a_statement_that_its_own_limit_ends_keeps_the_connection() -> None:
    before = query("SELECT pg_backend_pid()")
    query("SELECT set_config('statement_timeout', '100', false)")
    try:
        with pytest.raises(OperationalError):
            query("SELECT pg_sleep(10)")
    finally:
        query("SELECT set_config('statement_timeout', '0', false)")
    assert query("SELECT pg_backend_pid()") == before


def test_a_command_may_wait_for_as_long_as_it_takes(settings: Settings) -> None:
    assert settings.DATABASE_ANSWER_SECONDS is None
    assert query("SELECT 1 FROM pg_sleep(0.3)") == 1
