"""docs/limits.md: every number is the one that its place has, and no limit is left out."""

import importlib
import json
import os
import re
import subprocess
import sys
from datetime import timedelta
from functools import cache
from typing import Any

import pytest
from django.conf import settings

from tests.stack import ROOT
from tests.test_architecture import modules

PAGE = (ROOT / "docs" / "limits.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]
LIMITS = [(row[1], row[3].strip("`")) for row in ROWS if row[3].startswith("`")]

# How often something is done or looked at, which keeps nobody from anything.
PACES = {
    "flowplatform.audit.floods.WINDOW_SECONDS",
    "flowplatform.env.HSTS_SECONDS",
    "flowplatform.errors.RETRY_AFTER_SECONDS",
    "flowplatform.metrics._LAG_SECONDS",
    "flowplatform.metrics._REQUEST_SECONDS",
    "flowplatform.postgresql.base._LOOK_SECONDS",
    "flowplatform.supervisor._WATCH_SECONDS",
    "notifications.guard.LOOK_SECONDS",
    "notifications.hub.HEARTBEAT_SECONDS",
    "notifications.hub.LOOK_SECONDS",
    "notifications.notifier.GATHER_SECONDS",
    "notifications.notifier.PAUSE_SECONDS",
    "notifications.organization_feed.PAUSE_SECONDS",
    "settings.SECURE_HSTS_SECONDS",
}
PACED = "flowplatform.demo.worker."  # how often it looks


@cache
def defaults() -> dict[str, Any]:
    """Return what the environment says where it says nothing."""
    script = """
import json
from flowplatform import env
print(json.dumps({name: value for name, value in vars(env).items() if name.isupper()}, default=str))
"""
    environment = {"PATH": os.environ["PATH"]}
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=environment, capture_output=True, check=True)
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def value_of(place: str) -> Any:
    """Return what a variable of the environment, a setting or a constant is."""
    if place.isupper():
        return defaults()[place]
    module, _, name = place.rpartition(".")
    value = getattr(settings if module == "settings" else importlib.import_module(module), name)
    return value.total_seconds() if isinstance(value, timedelta) else value


@pytest.mark.parametrize(("shown", "place"), LIMITS, ids=[place for _, place in LIMITS])
def test_a_number_is_the_one_of_its_place(shown: str, place: str) -> None:
    value = value_of(place)
    if isinstance(value, str):
        assert shown == value
    else:
        number = re.match(r"[\d,.]+", shown)
        assert number is not None
        assert float(number[0].replace(",", "")) == float(value)


def test_no_limit_is_left_out() -> None:
    named = {place for _, place in LIMITS}
    variables = {name for name in defaults() if name.startswith(("RATE_LIMIT_", "SOCKETS_", "SIGN_IN_"))}
    assert variables - {"SOCKETS_PORT"} <= named
    found = {
        f"{module}.{name}"
        for module, path in modules()
        for name in re.findall(r"^(_?[A-Z]\w*SECONDS)\b", path.read_text(), re.MULTILINE)
    }
    ours = {place.replace("flowplatform.settings.", "settings.") for place in found if not place.startswith(PACED)}
    assert ours - PACES - named == {"settings.DATABASE_ANSWER_SECONDS"}  # one of two that are named, by role
    assert len(named) == len(LIMITS)
