"""The reporter and its process: forks, children of multiprocessing, and every way to end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.reporting import PATIENCE_SECONDS, Run, Way, script, some, way_to
from tests.conftest import Platform

TELL = """
    def tell(begin, end):
        for number in range(begin, end):
            reporter.status(("extract", "classify")[number % 2], f"step {number}")
"""


@pytest.fixture
def run(committed: None) -> Run:
    return Run()


@pytest.fixture
def way(platform: Platform) -> Iterator[Way]:
    with way_to(platform.port) as found:
        yield found


def end_of(run: Run, url: str, spool: Path, source: str, code: int = 0) -> str:
    """Run a script to its end; return what it printed."""
    process = script(run, url, spool, TELL + source)
    said, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == code, errors
    return said


def is_empty(folder: Path) -> bool:
    return not [*folder.glob("*/*")]


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise ValueError", 1)], ids=["end", "exit", "error"]
)
def test_what_was_told_last_is_sent_when_the_process_ends(
    run: Run, platform: Platform, tmp_path: Path, end: str, code: int
) -> None:
    end_of(run, platform.url, tmp_path, f"    tell(0, 10)\n    {end}\n", code)
    assert run.history() == some(10)
    assert is_empty(tmp_path)


def test_the_end_of_the_process_does_not_wait_for_a_platform_that_is_away(run: Run, way: Way, tmp_path: Path) -> None:
    way.turn("refuse")
    source = """
    begin = time.monotonic()
    tell(0, 10)
    module._close_all()
    print(time.monotonic() - begin < module.CLOSE_SECONDS / 2)
    """
    assert end_of(run, way.url, tmp_path, source) == "True\n"
    assert run.history() == []
    assert not is_empty(tmp_path)


def test_a_forked_child_reports_by_itself_and_its_parent_too(run: Run, platform: Platform, tmp_path: Path) -> None:
    source = """
    tell(0, 1000)
    child = os.fork()
    if child == 0:
        tell(2000, 2500)
        sys.exit()
    tell(1000, 2000)
    print(os.waitpid(child, 0)[1])
    """
    assert end_of(run, platform.url, tmp_path, source) == "0\n"
    of_parent = [told for told in run.history() if int(told[1].split()[1]) < 2000]
    of_child = [told for told in run.history() if int(told[1].split()[1]) >= 2000]
    assert (of_parent, of_child) == (some(2000), some(500, 2000))
    assert is_empty(tmp_path)


def test_a_child_that_ends_without_a_word_leaves_it_to_its_parent(run: Run, platform: Platform, tmp_path: Path) -> None:
    source = """
    from flowplatform_client.reporter import leftovers
    leftovers.SEARCH_SECONDS = 0.1
    child = os.fork()
    if child == 0:
        tell(0, 10)
        os._exit(0)
    os.waitpid(child, 0)
    deadline = time.monotonic() + module.CLOSE_SECONDS
    while len([*__import__("pathlib").Path(os.environ["FLOWPLATFORM_SPOOL"]).glob("*/*")]) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    """
    end_of(run, platform.url, tmp_path, source)
    assert run.history() == some(10)


def test_a_child_that_outlives_its_parent_keeps_nothing_of_it_locked(run: Run, way: Way, tmp_path: Path) -> None:
    way.turn("refuse")
    source = """
    tell(0, 150)
    reporter.flush(0.2)
    if os.fork() == 0:
        os.close(0), os.close(1), os.close(2)
        time.sleep(20)
    os.kill(os.getpid(), signal.SIGKILL)
    """
    end_of(run, way.url, tmp_path, source, -9)
    way.turn("pass")
    end_of(run, way.url, tmp_path, "    tell(150, 160)\n")
    assert run.history() == some(160)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_children_of_multiprocessing_report_to_their_end(
    run: Run, platform: Platform, tmp_path: Path, method: str
) -> None:
    """They end by `os._exit`, so what they told last is sent by their finalizers."""
    module = tmp_path / "crowd.py"
    module.write_text(
        "import os\n"
        "from flowplatform_client import FlowPlatform\n"
        "from flowplatform_client.reporter import Reporter\n"
        "def work(number):\n"
        "    reporter = Reporter(FlowPlatform.from_environment(), os.environ['EXECUTION'])\n"
        "    for step in range(10):\n"
        "        reporter.status('extract', f'{number} {step}')\n"
    )
    spool = tmp_path / "spool"
    source = f"""
    import multiprocessing
    sys.path.insert(0, {str(tmp_path)!r})
    from crowd import work
    context = multiprocessing.get_context({method!r})
    children = [context.Process(target=work, args=(number,)) for number in range(2)]
    [child.start() for child in children]
    [child.join() for child in children]
    """
    end_of(run, platform.url, spool, source)
    assert sorted(run.history()) == sorted(("extract", f"{number} {step}") for number in range(2) for step in range(10))
    assert is_empty(spool)


def test_what_is_told_at_the_very_end_is_in_the_spool(run: Run, platform: Platform, tmp_path: Path) -> None:
    source = """
    import atexit
    class Late:
        def __del__(self):
            tell(20, 30)
    late = Late()
    atexit._run_exitfuncs()
    tell(0, 10)
    os._exit(0)
    """
    end_of(run, platform.url, tmp_path, source)
    end_of(run, platform.url, tmp_path, "    reporter.status('extract', 'after')\n")
    assert run.history() == [*some(10), ("extract", "after")]


def test_reporters_that_are_killed_again_and_again_lose_and_repeat_nothing(run: Run, way: Way, tmp_path: Path) -> None:
    """Each is killed at a moment of its own: while it gathers, sends, waits for an answer, or takes over the last."""
    source = """
    import random
    reporter.close()
    for line in sys.stdin:
        number = int(line)
        child = os.fork()
        if child == 0:
            tell(130 * number, 130 * number + 130)
            time.sleep(random.uniform(0, 0.08))
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(child, 0)
        print("killed", flush=True)
    """
    process = script(run, way.url, tmp_path, TELL + source)
    assert process.stdin is not None
    assert process.stdout is not None
    for number in range(10):
        way.turn(("pass", "forget")[number % 2])
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "killed\n"
    process.communicate(timeout=PATIENCE_SECONDS)
    way.turn("pass")
    end_of(run, way.url, tmp_path, "    tell(1300, 1310)\n")
    assert run.history() == some(1310)
