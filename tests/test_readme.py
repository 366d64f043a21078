"""The README keeps its word: its blocks are pasted into a shell as they are, only the address and folder are ours."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.builders import make_flow, make_organization
from tests.conftest import Platform
from tests.stack import ROOT, wait_until

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def shell_blocks(platform: Platform) -> list[str]:
    """Return the blocks of "First requests", for this platform and this Python."""
    begin = README.index("tests/test_readme.py pastes these blocks")
    end = README.index("Follow a flow over its WebSocket")
    found = re.findall(r"```sh\n(.*?)```", README[begin:end], re.DOTALL)
    assert len(found) == 3
    return [
        block.replace("http://127.0.0.1:8000", platform.url).replace(".venv/bin/python", sys.executable)
        for block in found
    ]


def pasted(script: str) -> str:
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.usefixtures("committed")
def test_the_first_requests_work_when_pasted(platform: Platform) -> None:
    make_flow(make_organization("demo"), display_name="Document check")
    printed = pasted("\n".join(shell_blocks(platform)))
    assert '"error":{' not in printed
    assert '"detail":[' not in printed
    for expected in (
        f"Watch it: {platform.url}/executions/",
        '"task_name":"classify","status":"running"',
        '"task_outputs":[',
        '"statuses":[',
        '"run_number":1',
        '{"tags":[{"status":"added"}]}',
        '"edited_status":"edited_reexecuted"',
        '"output":{"total":119}',
        '"tag_metadata":{"note":"clean scan"}',
        '"type":"task_status.added"',
        '"status":"completed"',
        '"version":2',
    ):
        assert expected in printed, expected


@pytest.mark.usefixtures("committed")
def test_the_websocket_example_follows_a_flow(platform: Platform, tmp_path: Path) -> None:
    (example,) = [code for language, code in BLOCKS if language == "python"]
    (tmp_path / "watch.py").write_text(example)
    setup, story, _ = shell_blocks(platform)
    flow_and_token = pasted(f'{setup}\n{story} >/dev/null; echo "$FLOW $TOKEN"').split()[-2:]
    with (tmp_path / "out").open("w") as out:
        watcher = subprocess.Popen(
            [sys.executable, tmp_path / "watch.py", platform.ws_url, *flow_and_token], stdout=out
        )
    try:
        wait_until(lambda: "flow_execution.deleted" in (tmp_path / "out").read_text(), what="the last event")
    finally:
        watcher.kill()
        watcher.wait()
    first = (tmp_path / "out").read_text().splitlines()[0]
    assert first == "hello []"


def test_every_file_the_readme_points_to_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_the_two_commands_are_make_targets() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for line in BLOCKS[0][1].splitlines():
        assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line
