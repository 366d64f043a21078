"""The smoke size of `python -m benchmarks.reporter`: that it works from the start to the tables. Never a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.leftovers import processes_of
from tests.stack import ROOT

# The benchmark has servers and settings of its own.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPLATFORM_")}


@pytest.mark.slow
def test_the_smoke_size_prints_its_tables_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reporter", "--smoke"],
        cwd=ROOT,
        env={**ENVIRONMENT, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    figures = {row[0]: row[1:] for row in rows}
    assert 0 < float(figures["back to back, spool"][0]) <= float(figures["back to back, spool"][2])
    assert float(figures["reporter"][0]) > 0
    assert float(figures["load generator"][0]) > 0
    assert figures["reporter"][1] == "1.00"
    assert figures["2000"] == ["0", "0", "0"]
    # The web process that is killed cannot remove its figures.
    assert [path for path in tmp_path.iterdir() if not path.name.startswith("flowplatform-metrics-")] == []
    assert processes_of(tmp_path) == []
