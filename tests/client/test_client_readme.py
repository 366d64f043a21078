"""client/README.md keeps its word: its blocks of Python run as they are, and its tables name what there is."""

import re
from pathlib import Path
from typing import Any

import flowplatform_client
import pytest
from flowplatform_client import AsyncFlowPlatform, FlowPlatform, errors, resources
from flowplatform_client.cli import exits
from flowplatform_client.errors import ApiError

from tests.stack import ROOT

README = (ROOT / "client" / "README.md").read_text()


def test_its_examples_run(
    client: FlowPlatform, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("FLOWPLATFORM_SPOOL", str(tmp_path))
    monkeypatch.setenv("FLOWPLATFORM_URL", client.url)
    monkeypatch.setenv("FLOWPLATFORM_TOKEN", client.address.token)
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL):
        exec(block, names)
    assert names["execution"].reporter().close()
    attempts = client.task_executions.list(names["execution"].id)
    assert {(one.task_name, one.task_execution_idx): one.output for one in attempts} == {
        ("extract", 0): {"total": 118},
        ("extract", 1): {"total": 119.0},
        ("classify", 0): {"kind": "invoice"},
    }
    printed = capsys.readouterr().out
    assert f"Watch it: {client.url}/executions/{names['execution'].id}/" in printed
    assert "1 executions" in printed
    assert "bad_request [{" in printed
    assert names["states"]["classify"] == "completed"
    assert (names["newest"], names["latest"].status) == ([names["execution"].id], "completed")


@pytest.mark.parametrize("client_class", [FlowPlatform, AsyncFlowPlatform])
def test_its_table_has_every_method_of_both_clients(client_class: type) -> None:
    made = client_class("http://localhost", "a.token")
    kinds = (resources.Resource, resources.AsyncResource)
    parts = {name: part for name, part in vars(made).items() if isinstance(part, kinds)}
    table = dict(re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", README, re.MULTILINE))
    assert set(table) == set(parts)
    for name, part in parts.items():
        methods = {method for method in vars(type(part)) if not method.startswith("_")}
        assert {word for word in re.findall(r"`(\w+)`", table[name]) if word != "watch"} == methods
        assert all(getattr(part, method).__doc__ for method in methods)


def test_it_names_every_error_with_its_status_and_every_exit_code() -> None:
    for status, error in errors._BY_STATUS.items():
        assert re.search(rf"^\|.*`{error.__name__}`.*\|.*{status}.*\|", README, re.MULTILINE), error
    exported = {name: one for name, one in vars(flowplatform_client).items() if isinstance(one, type)}
    there = {name for name, one in exported.items() if issubclass(one, ApiError)}
    assert {name for name in there if f"`{name}`" not in README} == set()
    codes = {value for name, value in vars(exits).items() if name.isupper()}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", README, re.MULTILINE)} == codes - {exits.BUG}
