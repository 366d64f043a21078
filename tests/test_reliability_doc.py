"""docs/reliability.md shows what `make faults` has found, and every fault of it."""

import json

from tests.faults import table
from tests.faults.catalogue import FAULTS
from tests.stack import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text()
REPORT = json.loads(table.RESULT.read_text())


def test_the_table_is_that_of_the_result() -> None:
    assert "\n".join(table.lines(REPORT)) in PAGE, "paste the output of `python -m tests.faults.table`"


def test_the_result_has_every_fault_with_its_test_and_all_of_them_held() -> None:
    assert [(result["fault"], result["test"]) for result in REPORT["results"]] == [
        (fault.title, fault.test) for fault in FAULTS
    ]
    assert [result["fault"] for result in REPORT["results"] if result["problems"]] == []
