"""docs/abuse.md shows what the last whole run of `make abuse` came to, and nothing that was typed by hand."""

import json

from tests.abuse.corpus import GROUPS
from tests.abuse.markdown import RESULT, lines
from tests.stack import ROOT

PAGE = (ROOT / "docs" / "abuse.md").read_text()
RUN = json.loads(RESULT.read_text())


def test_the_tables_are_those_of_the_last_whole_run() -> None:
    assert "\n".join(lines(RUN)) in PAGE, "paste the output of `python -m tests.abuse.markdown`"


def test_the_last_whole_run_had_every_row_of_the_corpus_and_every_answer_was_right() -> None:
    rows = {(row["attack"], row["server"]) for row in RUN["rows"]}
    assert rows == {(attack.name, server) for attacks in GROUPS.values() for attack in attacks for server in attack.servers}
    assert not [row for row in RUN["rows"] if row["got"] not in row["expected"].split(" | ") or row["harmed"]]
