"""docs/performance.md shows what the result files say, and nothing that was typed by hand."""

import json

import pytest

from benchmarks import markdown
from tests.stack import ROOT

PAGE = (ROOT / "docs" / "performance.md").read_text()


def test_the_tables_of_make_bench_are_those_of_its_result() -> None:
    shown = "\n".join(markdown.lines(json.loads(markdown.RESULT.read_text())))
    assert shown in PAGE, "paste the output of `python -m benchmarks.markdown`"


@pytest.mark.parametrize("name", ["latest.json", "latest.svg", "live.json", "growth.json"])
def test_every_result_that_the_page_speaks_of_is_there(name: str) -> None:
    assert f"benchmarks/results/{name}" in PAGE
    assert (ROOT / "benchmarks" / "results" / name).is_file()
