"""The smoke size of `make bench-growth`: that it works from the start to the file. Never a time: machines differ."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.growth_reads import READS
from benchmarks.growth_run import WRITES
from tests.leftovers import processes_of
from tests.stack import ROOT

# The benchmark has servers and settings of its own.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPLATFORM_")}


def growth(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.growth", *arguments],
        cwd=ROOT,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )


@pytest.mark.slow
def test_the_smoke_size_measures_both_databases_and_looks_at_the_plans(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    size = ["--rows", "6000", "--outputs", "2000", "--rounds", "1", "--seconds", "0.2", "--reads", "2"]
    done = growth(*size, "--tmp", temporary, "--output", tmp_path)
    assert (tmp_path / "growth.json").exists(), done.stderr + done.stdout
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []

    report = json.loads((tmp_path / "growth.json").read_text())
    assert {name: size["rows"] for name, size in report["sizes"].items()} == {"small": 1_000, "large": 6_000}
    assert set(report["ratios"]) == {*WRITES, *READS}
    assert all(ratio > 0 for ratio in report["ratios"].values())
    assert report["wrong"] == []
    for read in READS:
        assert report["plans"]["large"][read]["rows_looked_at"] > 0
        assert read in done.stdout
    assert done.returncode == (1 if report["missed"] else 0)


def test_it_says_what_it_needs_and_refuses_to_fill_the_disk(tmp_path: Path) -> None:
    done = growth("--rows", "10000000000000", "--tmp", tmp_path)
    assert done.returncode == 2
    assert "choose a smaller --rows" in done.stderr
    assert list(tmp_path.iterdir()) == []
