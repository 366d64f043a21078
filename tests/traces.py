"""Traces for the tests of replay: a small one made here, and the two real ones beside the checkout."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "traces"
REAL_TRACES = [_SHARED / "fetchngs-dirt02-001.json", _SHARED / "rnaseq-dirt02-001.json"]

DIAMOND: dict[str, list[str]] = {"top": [], "left": ["top"], "right": ["top"], "bottom": ["left", "right"]}
RUNTIMES = {"top": 1.0, "left": 2.0, "right": 0.5, "bottom": 1.0}


def needs(trace: Path) -> None:
    """Skip the test where the real traces are not at hand: they are not part of the project."""
    if not trace.exists():
        pytest.skip(f"the recorded trace {trace} is not here")


def make_document(
    parents: Mapping[str, Sequence[str]] = DIAMOND, runtimes: Mapping[str, float] = RUNTIMES
) -> dict[str, Any]:
    """Return a WfFormat 1.5 document with the fields that replay reads and some that it ignores."""
    specified = [
        {"id": name, "name": name.upper(), "parents": list(above), "children": [], "inputFiles": []}
        for name, above in parents.items()
    ]
    executed = [{"id": name, "runtimeInSeconds": seconds, "avgCPU": 99.0} for name, seconds in runtimes.items()]
    return {
        "name": "diamond",
        "schemaVersion": "1.5",
        "runtimeSystem": {"name": "none"},
        "workflow": {
            "specification": {"tasks": specified, "files": []},
            "execution": {"makespanInSeconds": 4, "tasks": executed},
        },
    }


def write_trace(folder: Path, document: object) -> Path:
    """Write a document as JSON and return the file."""
    path = folder / "trace.json"
    path.write_text(json.dumps(document))
    return path
