"""Flows of Prefect show up on the real server."""

import subprocess

from executions.models import FlowExecution
from flowplatform.accounts.models import Organization
from tests.client.shown import Shown
from tests.integrations.conftest import ENVIRONMENTS, Variables
from tests.stack import ROOT


def test_the_runs_of_flows_show_up_with_attempts_errors_and_what_they_learned(
    variables: Variables, organization: Organization
) -> None:
    program = subprocess.run(
        [ENVIRONMENTS / "prefect" / "bin" / "python", "-m", "tests.integrations.orders"],
        cwd=ROOT,
        env=variables,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert program.stdout.split("\n")[:2] == ["2 parcels for 20", "3 parcels for 30"], program.stderr
    assert program.returncode == 3
    assert "could not be reported" not in program.stderr
    runs = [Shown(run) for run in FlowExecution.objects.filter(organization=organization).order_by("created_at")]
    first, second, failed, without_prices, crashed = runs

    assert first.status == "completed"
    assert set(first.states.values()) == {"completed"}
    assert first.waits == {"fetch": [], "send": [], "pack": [], "price": []}
    assert [one.processing_status for one in first.attempts("price")] == ["retried", "retried", "completed"]
    error = first.attempts("price")[1].error
    assert (error["type"], error["message"]) == ("ConnectionError", "no prices at the 2. time")
    assert "in price" in error["traceback"]
    assert [one.processing_status for one in first.attempts("pack")] == ["completed", "completed"]

    assert second.waits == {"fetch": [], "send": ["pack", "price"], "pack": ["fetch"], "price": ["fetch"]}
    assert second.execution.flow_id == first.execution.flow_id
    assert (first.execution.flow_version, second.execution.flow_version) == (1, 2)

    assert failed.states == {"fetch": "completed", "send": "skipped", "pack": "failed", "price": "completed"}
    assert failed.execution.flow_version == 2
    [wrong] = [one for one in failed.attempts("pack") if one.processing_status == "failed"]
    assert wrong.error["message"] == "order 3 is empty"

    assert without_prices.status == "completed"
    assert without_prices.execution.flow.display_name == "orders-without-prices"
    assert set(without_prices.states.values()) == {"completed"}

    assert crashed.status == "failed"
    assert crashed.states == {"fetch": "completed"}
