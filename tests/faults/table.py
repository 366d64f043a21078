"""The results as text: for the terminal, and as `docs/reliability.md` shows them.

`python -m tests.faults.table` prints the table of the document from the file.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "results" / "latest.json"

_HEAD = "| fault | writes acknowledged | 503 | lost | sockets | came back | longest answer | well again after | |"


def details(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield everything about one fault, for the terminal."""
    yield f"{_verdict(result)} within {result['seconds']:.0f} s"
    writes = f"{result['acknowledged']} writes acknowledged, {result['repeated']} asked again"
    yield f"  {writes}; answers {result['answers']}"
    yield (
        f"  longest answer {_seconds(result['longest'])}, without an acknowledged write {_seconds(result['silence'])},"
        f" well again after {_seconds(result['recovery'])}"
    )
    yield (
        f"  {result['sockets']} sockets came back {result['reconnects']} times, {result['resets']} resets;"
        f" complete {_seconds(result['converged'])} after the end"
    )
    yield from (f"  {note}" for note in result["notes"])
    yield from (f"  PROBLEM {problem}" for problem in result["problems"])


def lines(report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the machine and the table, with every test named, in Markdown."""
    machine = report["machine"]
    yield (
        f"{machine['cores']} cores of {machine['cpu']}, Python {report['python']}, {report['measured_at'][:10]}, "
        f"{'nginx' if report['nginx'] else 'no nginx'} in front, other work on the machine before: load "
        f"{machine['load_before']}."
    )
    yield ""
    yield _HEAD
    yield "|" + "---|" * (_HEAD.count("|") - 1)
    yield from map(_row, report["results"])
    yield ""
    yield from _limits(report["results"])


def _row(result: Mapping[str, Any]) -> str:
    answers = result["answers"]
    cells = [
        f"{result['fault']} (`{_name(result)}`)",
        result["acknowledged"],
        answers.get("503", 0),
        answers.get("lost", 0) + answers.get("502", 0),
        result["sockets"],
        result["reconnects"],
        _seconds(result["longest"]),
        _seconds(result["recovery"]),
        _verdict(result),
    ]
    return f"| {' | '.join(map(str, cells))} |"


def _limits(results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what else was seen, with the limit where there is one."""
    for result in results:
        if result["notes"]:
            yield f"- {_name(result)}: {'; '.join(result['notes'])}."


def _name(result: Mapping[str, Any]) -> str:
    name: str = result["test"].partition("[")[2].rstrip("]")
    return name


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.2f} s"


def _verdict(result: Mapping[str, Any]) -> str:
    return "BROKEN" if result["problems"] else "held"


if __name__ == "__main__":
    print(*lines(json.loads(RESULT.read_text())), sep="\n")
