"""What a run does, and how long it took, in the same words on the server and in the browser."""

import itertools
import json
import re
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flowplatform.pages import humane, run_states
from flowplatform.pages.run_states import STATES, count_states, meaning_of, meaning_of_run, sentence

STATIC = Path(run_states.__file__).parents[1] / "static" / "flowplatform"
BOUNDS = [0, 39.5, 999, 1000, 9949, 9950, 9951, 59_499, 59_500, 134_000, 3_600_000, 11_100_000, 86_399_600, 187_200_000]


def table_of(script: str, name: str) -> dict[str, str]:
    """Return a table of a script: an object with texts only."""
    found = re.search(rf"const {name} = {{(.*?)}};", script, re.DOTALL)
    assert found, name
    return dict(re.findall(r'(\w+): "([^"]+)"', found[1]))


@pytest.mark.parametrize("name", ["GLYPHS", "WORDS", "MEANINGS"])
def test_the_tables_are_those_of_the_script(name: str) -> None:
    table = table_of((STATIC / "states.js").read_text(), name)
    assert list(table.items()) == list(getattr(run_states, name).items())


def in_the_browsers_words(expression: str, module: str, cases: list[Any]) -> list[Any]:
    """Evaluate a JavaScript function on each of the cases, by Node where there is one."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("needs Node.js")
    program = f"""
        import * as module from {json.dumps((STATIC / module).as_uri())};
        const cases = JSON.parse(await new Response(process.stdin).text());
        console.log(JSON.stringify(cases.map({expression})));
    """
    command = [node, "--input-type=module", "--no-warnings", "--eval", program]
    run = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, check=True, timeout=30)
    answer: list[Any] = json.loads(run.stdout)
    return answer


def test_a_run_means_the_same_on_both_sides() -> None:
    told = ["completed", "failed", "running", "requires_review", "cancelled", "skipped", "queued", "odd"]
    cases = [
        [own, count_states(dict.fromkeys(statuses, 1), total), total]
        for own in ("queued", "running", "failed", "cancel_requested", "edited")
        for size in (0, 1, 2, 3)
        for statuses in itertools.combinations(told, size)
        for total in (size, size + 1)
    ]
    theirs = in_the_browsers_words(
        "([own, counts, total]) => module.meaningOfRun(own, counts, total)", "states.js", cases
    )
    assert theirs == [meaning_of_run(*case)._asdict() for case in cases]


def test_a_length_of_time_reads_the_same_on_both_sides() -> None:
    theirs = in_the_browsers_words("(ms) => [module.duration(ms), module.elapsed(ms)]", "format.js", BOUNDS)
    lengths = [timedelta(milliseconds=bound) for bound in BOUNDS]
    assert [[humane.duration(length), humane.elapsed(length)] for length in lengths] == theirs


def test_lengths_of_time_are_for_people() -> None:
    texts = [humane.duration(timedelta(milliseconds=bound)) for bound in (40, 1400, 12_000, 134_000, 11_100_000)]
    assert texts == ["40 ms", "1.4 s", "12 s", "2 m 14 s", "3 h 5 m"]


def test_a_run_is_what_its_tasks_say_until_somebody_sets_its_status() -> None:
    counts = count_states({"completed": 2, "failed": 1}, 3)
    assert meaning_of_run("queued", counts, 3).state == "failed"
    assert meaning_of_run("completed", counts, 3).state == "completed"
    assert meaning_of_run("queued", count_states({}, 3), 3).state == "queued"
    assert meaning_of("no such status") == ("other", "no such status")


def test_counts_are_said_in_the_order_of_bars() -> None:
    assert sentence(count_states({"running": 1, "completed": 5, None: 1}, 8)) == "5 completed, 1 running, 2 not started"
    assert set(count_states({}, 0)) == set(STATES)
