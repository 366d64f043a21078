"""The stage of the attacks, and the table of `make abuse`."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from pytest_django.plugin import DjangoDbBlocker

from benchmarks import machine
from tests.abuse.markdown import RESULT, lines
from tests.abuse.stage import Stage, as_result
from tests.builders import make_execution, make_flow, make_organization, make_token
from tests.servers import DATA_DIR

_result: dict[str, Any] = {}


@pytest.fixture(scope="session")
def stage(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[Stage]:
    with django_db_blocker.unblock():
        organization = make_organization("abused")
        flow = make_flow(organization)
        rows = {
            "token": make_token(organization),
            "flow_id": str(flow.pk),
            "execution_id": str(make_execution(flow).pk),
        }
    stage = Stage(DATA_DIR, rows, whole=os.environ.get("ABUSE") == "whole")
    yield stage
    stage.close()
    if stage.whole:
        _result.update(as_result(stage.rows, machine.describe()))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table of a whole run, and write it down."""
    if _result:
        RESULT.write_text(json.dumps(_result, indent=1) + "\n")
        terminalreporter.section("attacks")
        for line in lines(_result):
            terminalreporter.write_line(line)
        terminalreporter.write_line(f"written: {RESULT}")
