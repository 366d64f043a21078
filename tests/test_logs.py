"""What the logs say of a request, a task and a socket, what they never say, and that nobody can forge a line."""

import asyncio
import io
import json
import logging
import logging.config
import uuid
from collections.abc import Callable, Iterator
from contextvars import Context, copy_context
from typing import Any

import httpx
import pytest
from django.conf import settings as project
from django.db import DataError, connection, transaction
from django.test import Client

from executions.models import FlowExecution
from flowplatform import logs
from tests.builders import (
    PASSWORD,
    Api,
    make_execution,
    make_flow,
    make_member,
    make_organization,
    make_token,
    statuses,
)
from tests.servers import DATA_DIR
from tests.stack import Stack, wait_until
from tests.test_sockets import frame_from, watching

Line = dict[str, Any]

HOSTILE = 'a\nb\r\x1b[31m\x00"\\\u2028 2026-01-01T00:00:00Z ERROR forged: line'


def written(form: str, say: Callable[[logging.Logger], None], context: Context | None = None) -> str:
    """Return what a logger writes, set up as the platform's are, in a context without a request unless one is given."""
    configuration = logs.configuration(form=form, level="INFO", requests=True)
    formatter = logging.config.DictConfigurator(configuration).configure_formatter(configuration["formatters"]["line"])
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logger = logging.Logger("tests")
    logger.addHandler(handler)
    (context or Context()).run(say, logger)
    return stream.getvalue()


# --- A line ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("text", [HOSTILE, "\ud800"])
def test_a_message_is_one_line_whatever_it_says(form: str, text: str) -> None:
    (line,) = written(form, lambda logger: logger.warning("it said %s", text)).splitlines()
    assert line.isprintable()
    if form == "json":
        assert json.loads(line)["message"] == f"it said {text}"


def test_a_line_of_text_begins_as_people_expect_it_to() -> None:
    line = written("console", lambda logger: logger.warning("hello", extra={"status": 7, "secret": "x"}))
    time, level, name, *rest = line.split()
    assert time.endswith("Z")
    assert (level, name, rest) == ("WARNING", "tests:", ["hello", "status=7"])  # and nothing that was not asked for


def raise_and_log(logger: logging.Logger) -> None:
    try:
        raise ValueError(HOSTILE)
    except ValueError:
        logger.exception("failed")


def test_a_traceback_is_part_of_its_line_as_json_and_indented_as_text() -> None:
    (line,) = written("json", raise_and_log).splitlines()
    assert "ValueError: a\nb" in json.loads(line)["exception"]
    first, *rest = written("console", raise_and_log).splitlines()
    assert first.endswith("tests: failed")
    assert len(rest) > 3
    assert all(one.startswith("    ") for one in rest)


def test_what_postgresql_quotes_of_a_value_is_left_out(db: None) -> None:
    document = "{" + "hidden"  # apart: a traceback shows lines of the code
    with connection.cursor() as cursor, pytest.raises(DataError) as refused, transaction.atomic():
        cursor.execute("SELECT %s::json", [document])

    line = json.loads(written("json", lambda logger: logger.error("no: %s", refused.value, exc_info=refused.value)))
    for text in (line["message"], line["exception"]):
        assert "invalid input syntax for type json" in text
        assert "DETAIL: (left out)" in text
    assert document not in json.dumps(line)


def test_a_person_and_her_organization_are_in_the_lines_of_a_page(db: None) -> None:
    organization = make_organization()
    person = Api(user=make_member(organization, username="alice"))
    person.get("/")

    def say(logger: logging.Logger) -> None:
        logger.warning("something about it")  # the request is over, and no other has begun in this thread

    line = json.loads(written("json", say, copy_context()))
    assert (line["actor"], line["organization"]) == ("user:alice", str(organization.pk))
    assert (line["route"], len(line["request_id"])) == ("/", 26)


# --- Real processes -------------------------------------------------------------------------------------------------


class Installation(Stack):
    """A live process and a worker that log as in production, at the level at which everything is said."""

    def lines(self, name: str) -> list[Line]:
        return [json.loads(line) for line in self.log(name).read_text().splitlines()]

    def line(self, name: str, **fields: object) -> Line:
        """Wait for a line with these fields, and return it."""
        found: list[Line] = []

        def look() -> bool:
            found[:] = [line for line in self.lines(name) if fields.items() <= line.items()]
            return bool(found)

        wait_until(look, what=f"a line with {fields}")
        return found[0]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    environment = {"LOG_FORMAT": "json", "LOG_REQUESTS": "true", "LOG_LEVEL": "DEBUG"}
    installation = Installation(DATA_DIR, environment, logs=tmp_path_factory.mktemp("logs"))
    installation.start("live", "worker")
    yield installation
    installation.stop()


@pytest.fixture
def execution(committed: None) -> FlowExecution:
    return make_execution(make_flow(make_organization(f"logs-{uuid.uuid4().hex}")))


def test_every_line_of_a_request_a_task_and_a_socket_says_whose_it_is_and_nothing_that_is_secret(
    without_platform: None, installation: Installation, execution: FlowExecution
) -> None:
    organization = str(execution.organization_id)
    token, foreign = make_token(execution.organization), make_token(make_organization(f"logs-{uuid.uuid4().hex}"))
    request_id, of_stranger = "01KAPXB8Q4T6WJ0M3Z9F5HD7RC", "01KAPXB8Q4T6WJ0M3Z9F5HD7RD"
    path = f"/api/flow-executions/{execution.pk}/task-status"
    body = statuses(("extract", "a secret of the tenant"))

    async def watch() -> None:
        async with watching(installation, execution.flow_id, token) as socket:
            await frame_from(socket)

    with httpx.Client(base_url=installation.url) as client:
        headers = {"Authorization": f"Bearer {token}", "X-Request-ID": request_id}
        assert client.post(f"{path}?key=hidden", json=body, headers=headers).status_code == 200
        headers = {"X-API-Key": foreign, "X-Request-ID": of_stranger}
        assert client.post(path, json=body, headers=headers).status_code == 404
        client.get("/login/")
        form = {"username": "nobody", "password": PASSWORD, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
        client.post("/login/", data=form)
        cookies = list(client.cookies.values())
    asyncio.run(watch())

    route = "/api/flow-executions/<id:flow_execution_id>/task-status"
    said = installation.line("live", message="request", request_id=request_id)
    assert (said["level"], said["logger"], said["route"]) == ("info", "flowplatform.requests", route)
    assert (said["method"], said["path"], said["status"]) == ("POST", path, 200)
    assert said["actor"].startswith("service:service-")
    assert (said["organization"], len(said["actor_id"]), said["address"]) == (organization, 36, "127.0.0.1")
    stranger = installation.line("live", message="request", request_id=of_stranger)
    assert stranger["status"] == 404
    assert stranger["organization"] != organization

    done = installation.line("worker", message="task_succeeded", request_ids=[request_id])
    assert (done["task"], len(done["task_id"])) == ("notifications.relay", 36)

    ended = installation.line("live", message="socket", flow=str(execution.flow_id))
    assert (ended["code"], ended["actor"], ended["organization"]) == ("client", said["actor"], organization)

    everything = installation.log("live").read_text() + installation.log("worker").read_text()
    for secret in (token, foreign, "a secret of the tenant", "hidden", PASSWORD, project.SECRET_KEY, *cookies):
        assert secret not in everything


def test_a_task_that_fails_is_told_once_with_its_name_and_traceback(
    without_platform: None, installation: Installation
) -> None:
    from flowplatform.celery import app

    app.send_task("notifications.relay", args=[["no id at all"]])
    failed = installation.line("worker", message="task_failed", task="notifications.relay")
    assert failed["level"] == "error"
    assert "ValueError" in failed["exception"]
    assert len([line for line in installation.lines("worker") if line["level"] == "error"]) == 1


def test_a_request_that_fails_says_why_beside_its_own_line(
    db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from flowplatform.pages.flows import FlowListPage

    def broken(*args: object, **kwargs: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(FlowListPage, "dispatch", broken)
    with caplog.at_level("INFO", logger="flowplatform.requests"):
        assert Client(raise_request_exception=False).get("/?token=hidden").status_code == 500
    (record,) = [one for one in caplog.records if one.name == "flowplatform.requests"]
    assert (record.levelname, record.__dict__["status"], record.__dict__["path"]) == ("ERROR", 500, "/")
    (bug,) = [one for one in caplog.records if one.name == "django.request"]
    assert bug.exc_info
    assert "hidden" not in caplog.text


def test_requests_have_no_line_in_the_embedded_mode_and_one_in_production() -> None:
    level = logging.getLogger("flowplatform.requests").level
    assert level == logging.CRITICAL  # this run is embedded
    assert logs.configuration(form="json", level="INFO", requests=True)["loggers"]["flowplatform.requests"] == {
        "level": "INFO"
    }
