"""DAGs of Airflow show up on the real server, switched on by nothing but the environment."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from executions.models import FlowExecution
from flowplatform.accounts.models import Organization
from tests.client.shown import Shown
from tests.integrations.conftest import ENVIRONMENTS, Variables
from tests.stack import free_port, wait_until

AIRFLOW = ENVIRONMENTS / "airflow" / "bin" / "airflow"
PROCESSES = ("api-server", "dag-processor", "scheduler")


@pytest.fixture
def airflow(variables: Variables, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """An Airflow with one DAG. Call it to have a command of its own run."""
    port = free_port()
    (tmp_path / "dags").mkdir()
    shutil.copy(Path(__file__).with_name("orders_dag.py"), tmp_path / "dags")
    environment = {
        **variables,
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(tmp_path / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": "x" * 64,
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
    }

    def run(*command: str) -> str:
        done = subprocess.run([AIRFLOW, *command], env=environment, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("db", "migrate")
    started = []
    for process in PROCESSES:
        with (tmp_path / f"{process}.log").open("wb") as log:
            started.append(subprocess.Popen([AIRFLOW, process], env=environment, stdout=log, stderr=log))
    yield run
    for one in started:
        one.terminate()
    for one in started:
        one.wait(20)
    for process in PROCESSES:
        print(process, (tmp_path / f"{process}.log").read_text()[-4000:])


def test_a_run_of_a_dag_shows_up_with_attempts_errors_and_what_never_ran(
    airflow: Callable[..., str], organization: Organization
) -> None:
    wait_until(lambda: "orders" in airflow("dags", "list"), seconds=180)
    airflow("dags", "trigger", "orders", "--run-id", "monday")
    runs = FlowExecution.objects.filter(organization=organization)
    wait_until(runs.exists, seconds=120)
    run = Shown(runs.get())
    wait_until(lambda: run.status == "failed", seconds=240, what=str(run.states))
    assert run.execution.flow.display_name == "orders"
    assert run.execution.input == {"dag_id": "orders", "run_id": "monday"}
    assert run.waits == {
        "fetch": [],
        "price": [],
        "gift": ["fetch"],
        "pack": ["fetch"],
        "send": ["pack", "price"],
        "wrap": ["gift"],
        "refuse": ["send"],
        "sign": ["refuse"],
    }
    assert run.states == {
        "fetch": "completed",
        "price": "completed",
        "gift": "skipped",
        "pack": "completed",
        "send": "completed",
        "wrap": "skipped",
        "refuse": "failed",
        "sign": "skipped",
    }
    assert [one.processing_status for one in run.attempts("price")] == ["retried", "completed"]
    error = run.attempts("price")[0].error
    assert error["type"] == "ConnectionError"
    assert error["message"] == "no prices yet"
    assert 'raise ConnectionError("no prices yet")' in error["traceback"]
    assert [one.input["map_index"] for one in run.attempts("pack")] == [0, 1, 2]
    assert {one.processing_status for one in run.attempts("pack")} == {"completed"}
    [refused] = run.attempts("refuse")
    assert refused.error["message"] == "nobody is there"
    assert refused.started_at < refused.completed_at
    assert runs.count() == 1
