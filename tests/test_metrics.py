"""`/metrics`: what every process counts adds up in one answer, whoever dies, and it is for nobody but the operator."""

import asyncio
import http.client
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import yaml
from django.test import Client
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from flowplatform import env, metrics
from flowplatform.accounts.models import Organization
from tests import builders
from tests.builders import make_execution, make_flow, make_organization, make_token, statuses
from tests.conftest import Platform
from tests.servers import DATA_DIR
from tests.stack import ROOT, Stack, free_port, wait_until
from tests.test_sockets import events_from, frame_from, report, watching

BATCH = "/api/flow-executions/<id:flow_execution_id>/task-status"


class Scrape:
    """The figures of one answer."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of a name that have these labels."""
        found = [one.value for one in self._samples if one.name == name and labels.items() <= one.labels.items()]
        return sum(found)

    def labels(self, name: str, label: str) -> set[str]:
        return {one.labels[label] for one in self._samples if one.name == name}


def scrape(url: str, headers: Mapping[str, str] | None = None) -> Scrape:
    response = httpx.get(f"{url}/metrics", headers=headers)
    assert response.status_code == 200, response.text
    return Scrape(response.text)


# --- In this process ------------------------------------------------------------------------------------------------


def here() -> Scrape:
    return Scrape(Client(REMOTE_ADDR="127.0.0.1").get("/metrics").content.decode())


def test_requests_are_counted_by_the_pattern_of_their_route(organization: Organization) -> None:
    api = builders.Api(make_token(organization))
    execution = make_execution(make_flow(organization))
    before = here()
    api.post(f"/api/flow-executions/{execution.pk}/task-status", statuses(("extract", "completed")))
    api.post(f"/api/flow-executions/{uuid4()}/task-status", statuses(("extract", "completed")))
    api.get(f"/no/such/address/{uuid4()}")
    after = here()
    for status in ("200", "404"):
        counted = {"method": "POST", "route": BATCH, "status": status}
        assert after("flowplatform_http_requests_total", **counted) == 1 + before(
            "flowplatform_http_requests_total", **counted
        )
    assert after("flowplatform_http_request_duration_seconds_count", method="POST", route=BATCH) >= 2
    assert str(execution.pk) not in after.text
    assert "/no/such" not in after.text


def test_clients_cannot_invent_labels(organization: Organization) -> None:
    api = builders.Api(make_token(organization))
    for number in range(3):
        api(f"BREW{number}", "/api/flows")
    assert here().labels("flowplatform_http_requests_total", "method") <= {
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other",
    }  # fmt: skip


def test_batches_are_counted_by_their_kind_with_their_items_and_replays_apart(organization: Organization) -> None:
    api = builders.Api(make_token(organization))
    execution = make_execution(make_flow(organization))
    path = f"/api/flow-executions/{execution.pk}/task-status"
    before = here()
    for _ in range(2):
        api.post(path, statuses(("extract", "a"), ("classify", "a")), **{"Idempotency-Key": "once"})
    tag = {"flow_execution_id": str(execution.pk), "task_name": "extract", "tag_type": "review", "operation": "add"}
    api("PATCH", "/api/task-tags", {"tags": [{**tag, "tag": str(number)} for number in range(5)]})
    attempt = {"flow_execution_id": str(execution.pk), "task_name": "extract", "task_execution_idx": 0}
    api.post("/api/task-executions", {**attempt, "processing_status": "running"})
    after = here()

    def more(name: str, **labels: str) -> float:
        return after(name, **labels) - before(name, **labels)

    assert more("flowplatform_batch_items_count", kind="status") == 2
    assert more("flowplatform_batch_items_sum", kind="status") == 4
    assert more("flowplatform_batch_items_sum", kind="tag") == 5
    assert more("flowplatform_batch_items_count", kind="execution") == 1
    assert more("flowplatform_idempotent_replays_total") == 1


def test_nothing_in_the_figures_tells_of_a_tenant(organization: Organization) -> None:
    api = builders.Api(make_token(organization))
    flow = make_flow(organization, "extract", display_name="A secret name")
    api.get(f"/api/flows/{flow.pk}")
    told = here().text
    for secret in (str(flow.pk), str(organization.pk), organization.slug, "A secret name"):
        assert secret not in told


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"REMOTE_ADDR": "127.0.0.1"}, 200),
        ({"REMOTE_ADDR": "::1"}, 200),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "10.0.0.7:8000"}, 200),  # asked by an address, as scrapers do
        ({"REMOTE_ADDR": "10.0.0.7"}, 403),
        ({"REMOTE_ADDR": ""}, 403),  # a Unix socket: who is behind it does not show
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, 403),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_REAL_IP": "203.0.113.7"}, 403),
        ({"REMOTE_ADDR": "10.0.0.7", "HTTP_AUTHORIZATION": "Bearer "}, 403),
    ],
)
def test_without_a_token_only_this_machine_may_ask_and_not_through_a_proxy(
    environ: dict[str, str], status: int, db: None
) -> None:
    assert Client().get("/metrics", **environ).status_code == status


@pytest.mark.parametrize(
    ("environ", "status"),
    [
        ({"HTTP_AUTHORIZATION": "Bearer right"}, 200),
        ({"HTTP_AUTHORIZATION": "Bearer right", "HTTP_X_FORWARDED_FOR": "203.0.113.7"}, 200),
        ({"HTTP_AUTHORIZATION": "Bearer wrong"}, 403),
        ({"HTTP_AUTHORIZATION": "Bearer rîght"}, 403),
        ({"HTTP_AUTHORIZATION": "right"}, 403),
        ({}, 403),
    ],
)
def test_with_a_token_only_who_sends_it_may_ask(
    environ: dict[str, str], status: int, db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env, "METRICS_TOKEN", "right")
    assert Client(REMOTE_ADDR="127.0.0.1").get("/metrics", **environ).status_code == status


def test_a_person_is_nobody_here(organization: Organization) -> None:
    person = builders.Api(user=builders.make_member(organization, role="admin"))
    assert person.get("/metrics", **{"X-Forwarded-For": "203.0.113.7"}).status_code == 403


# --- Several processes ----------------------------------------------------------------------------------------------


class Web:
    """The web role as two processes."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self.url = f"http://127.0.0.1:{self._port}"
        environment = {**os.environ, "FLOWPLATFORM_DATA_DIR": str(DATA_DIR), "PROMETHEUS_MULTIPROC_DIR": str(folder)}
        environment.pop("FLOWPLATFORM_ROLE", None)
        command = [sys.executable, "-m", "flowplatform.web", "--port", str(self._port), "--processes", "2"]
        self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)

    def ask(self, times: int) -> None:
        for _ in range(times):  # each over a connection of its own, for any of the processes
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
            connection.request("GET", "/api/flows")
            assert connection.getresponse().status == 401
            connection.close()

    def asked(self) -> float:
        return scrape(self.url)("flowplatform_http_requests_total", route="/api/flows", status="401")

    def running(self) -> float:
        """Return how many processes the figures tell of."""
        with suppress(httpx.TransportError):
            return scrape(self.url)("flowplatform_processes", role="web")
        return 0

    def pids(self) -> list[int]:
        return [
            int(pid) for pid in Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        ]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(15)


@pytest.fixture
def web(tmp_path: Path, committed: None) -> Iterator[Web]:
    web = Web(tmp_path / "figures")
    wait_until(lambda: web.running() == 2, seconds=40, what="the start of two processes")
    yield web
    web.stop()


def test_the_processes_of_a_server_are_one_sum_that_survives_them(web: Web, tmp_path: Path) -> None:
    web.ask(20)
    assert web.asked() == 20
    killed = web.pids()[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: killed not in web.pids(), what="the end of a process")
    assert web.asked() == 20  # what it counted is not lost with it
    wait_until(lambda: web.running() == 2, seconds=30, what="the next process")
    web.ask(10)
    assert web.asked() == 30
    assert len(list((tmp_path / "figures").glob("counter_*.db"))) <= 3  # the next process has taken its place


def test_live_worker_and_beat_tell_in_one_answer_of_an_event_and_of_who_watches(
    platform: Platform, committed: None
) -> None:
    organization = make_organization(f"metrics-{uuid4().hex}")
    execution = make_execution(make_flow(organization))
    token = make_token(organization)
    before = scrape(platform.url)

    async def watch() -> Scrape:
        async with watching(platform, execution.flow_id, token) as socket:
            await frame_from(socket)
            await asyncio.to_thread(report, platform, token, execution, ("extract", "completed"))
            await events_from(socket, 1)
            return await asyncio.to_thread(scrape, platform.url)

    during = asyncio.run(watch())

    def more(name: str, **labels: str) -> float:
        return during(name, **labels) - before(name, **labels)

    assert during("flowplatform_processes", role="live") == 1
    assert during("flowplatform_processes", role="worker") == 2  # and beat
    assert during("flowplatform_sockets", kind="flow") >= 1
    assert more("flowplatform_socket_frames_total", kind="flow") >= 1
    assert more("flowplatform_hints_total", outcome="sent") >= 1
    for stage in ("numbered", "sent"):
        assert more("flowplatform_relay_lag_seconds_count", stage=stage) >= 1
    assert more("flowplatform_task_duration_seconds_count", task="notifications.relay") >= 1
    wait_until(
        lambda: scrape(platform.url)("flowplatform_sweep_timestamp_seconds") > time.time() - 30, what="a sweep's end"
    )
    wait_until(
        lambda: (
            scrape(platform.url)("flowplatform_socket_closes_total", kind="flow", code="client")
            > before("flowplatform_socket_closes_total", kind="flow", code="client")
        ),
        what="the goodbye of the client",
    )


def test_a_worker_answers_on_a_port_of_its_own_and_only_with_the_token(committed: None) -> None:
    address = f"127.0.0.1:{free_port()}"
    stack = Stack(DATA_DIR, {"METRICS_LISTEN": address, "METRICS_TOKEN": "right", "PROMETHEUS_MULTIPROC_DIR": ""})
    stack.start("beat")
    try:
        wait_until(lambda: answers(address), seconds=30, what="an answer of beat")
        assert httpx.get(f"http://{address}/metrics").status_code == 403
        assert httpx.get(f"http://{address}/other").status_code == 404
        told = scrape(f"http://{address}", {"Authorization": "Bearer right"})
        assert told("flowplatform_processes", role="worker") == 1
        assert told("process_resident_memory_bytes") > 0  # one process tells of itself
    finally:
        stack.stop()


def answers(address: str) -> bool:
    with suppress(httpx.TransportError):
        httpx.get(f"http://{address}/other")
        return True
    return False


# --- What is asked and alerted on -------------------------------------------------------------------------------------

PROMETHEUS: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "prometheus.yml").read_text())
ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for group in yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
}
SERVICES: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


def names_of(figure: Any) -> set[str]:
    """Return the names under which a figure is told."""
    (family,) = figure.describe()
    endings = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_count", "_sum"]}[family.type]
    return {f"{family.name}{ending}" for ending in endings}


FIGURES = {
    name: figure
    for figure in vars(metrics).values()
    if isinstance(figure, Counter | Gauge | Histogram)
    for name in names_of(figure)
}


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_asks_for_figures_that_there_are_and_says_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    expression = rule["expr"]
    asked = re.findall(r"(flowplatform_\w+)(?:\{([^}]*)\})?", expression)
    assert {name for name, _ in asked} <= set(FIGURES)
    for name, matchers in asked:
        labels = set(re.findall(r"(\w+)(?:=~|!~|!=|=)\"", matchers))
        assert labels <= set(FIGURES[name]._labelnames), name
    for pair in ("()", "{}", "[]"):
        assert expression.count(pair[0]) == expression.count(pair[1])
    assert asked or "up{" in expression
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"]["summary"]
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor == alert.lower()
    assert f"\n### {alert}\n" in (ROOT / path).read_text()


def test_the_runbook_knows_no_alert_that_is_gone_and_no_figure() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    assert set(re.findall(r"^### (\w+)$", text, re.MULTILINE)) == set(ALERTS)
    families = {name for figure in FIGURES.values() for name in (figure.describe()[0].name,)}
    assert set(re.findall(r"flowplatform_\w+", text)) <= families | set(FIGURES)


def test_prometheus_asks_every_service_where_it_answers() -> None:
    asked = {
        name: found["port"]
        for job in PROMETHEUS["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    listening = {
        name: SERVICES[name]["environment"]["METRICS_LISTEN"].rpartition(":")[2] for name in ("worker", "beat")
    }
    listening |= {
        name: SERVICES[name]["command"][SERVICES[name]["command"].index("--port") + 1] for name in ("web", "live")
    }
    assert asked == {name: int(port) for name, port in listening.items()}
    assert all(job["authorization"]["credentials_file"] for job in PROMETHEUS["scrape_configs"])
