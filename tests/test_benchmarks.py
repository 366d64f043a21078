"""The smoke size of `make bench`: that it works from the start to the files. Never a time: machines differ."""

import json
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.leftovers import processes_of
from tests.stack import ROOT

# The benchmark has servers and settings of its own.
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("FLOWPLATFORM_")}


@pytest.mark.slow
def test_the_smoke_size_measures_every_cell_and_leaves_a_table_a_file_and_a_picture(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--smoke", "--output", tmp_path],
        cwd=ROOT,
        env={**ENVIRONMENT, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []

    report = json.loads((tmp_path / "partial.json").read_text())
    assert report["errors"] == []
    cells = {tuple(cell[name] for name in ("subject", "kind", "size", "connections")): cell for cell in report["cells"]}
    connections = {"floor": (1, 2), "daphne": (1, 8), "web": (1, 8)}
    assert set(cells) == {
        (subject, kind, 10, count)
        for subject, kind in product(connections, ("status", "tag"))
        for count in connections[subject]
    }
    for cell in cells.values():
        assert cell["batches_per_second"] > 0
        assert 0 < cell["p50_ms"] <= cell["p99_ms"]
        if cell["subject"] != "floor":
            assert cell["ratios"]["batches_per_second_to_floor"] > 0
            assert cell["cpu_seconds_per_1000_batches"]["server"] >= 0
    assert {target["server"] for target in report["targets"]} == {"web"}
    assert {target["met"] for target in report["targets"]} <= {True, False, None}
    assert all(peak > 0 for group in report["memory"] for peak in group["peak_rss_mib"])

    assert "bare SQL: the floor" in done.stdout
    assert ElementTree.parse(tmp_path / "partial.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"
