"""How the page of a large run does in a browser: when it is there, and how smoothly it moves under load.

    .venv/bin/python -m benchmarks.page [--tasks 1000] [--statuses 200] [--seconds 20] [--data-dir DIR]

Half of the tasks have run before the page is opened. Then a worker reports statuses of all tasks, in batches of ten,
while the page counts frames: one that takes longer than 50 ms is felt. How late the page is comes from marks that the
worker sends as statuses of one task; both clocks are this machine's. Takes the development packages and Chromium.
"""

import json
import random
import threading
import time
from statistics import median, quantiles
from typing import Any

from benchmarks.platform import Client, parser, running_platform

_BATCH = 10
_MARKS_PER_SECOND = 4
_LAYER = 20  # tasks that may run at once
_FELT_MS = 50

_PAINTED = """() => ({
  first: performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
  loaded: performance.timing.loadEventEnd - performance.timing.navigationStart,
  rows: document.querySelectorAll("#tasks tbody tr").length,
})"""
_WATCH = """(name) => {
  const frames = [], marks = [];
  let before = performance.now();
  const count = (now) => { frames.push(now - before); before = now; requestAnimationFrame(count); };
  requestAnimationFrame(count);
  const word = document.querySelector(`tr[data-name="${name}"] .state`);
  new MutationObserver(() => marks.push([word.textContent, Date.now()]))
    .observe(word, { childList: true, characterData: true, subtree: true });
  window.watched = { frames, marks };
}"""


def make_run(client: Client, tasks: int) -> dict[str, Any]:
    """Register a layered flow, queue it, and report half of its tasks."""
    names = [f"task-{index:04}" for index in range(tasks)]
    definition = [
        {"name": name, "depends_on": [names[index - _LAYER]] if index >= _LAYER else []}
        for index, name in enumerate(names)
    ]
    flow = client.post("/api/flows", {"display_name": f"Benchmark: {tasks} tasks", "definition": {"tasks": definition}})
    run: dict[str, Any] = client.post("/api/flow-executions", {"flow_id": flow["id"]})
    for status in ("queued", "running", "completed"):
        for begin in range(0, tasks // 2, 100):
            report(client, run, [(name, status) for name in names[begin : min(begin + 100, tasks // 2)]])
    return {**run, "names": names}


def report(client: Client, run: dict[str, Any], pairs: list[tuple[str, str]]) -> None:
    """Report one batch."""
    body = {"statuses": [{"task_name": name, "status": status} for name, status in pairs]}
    client.post(f"/api/flow-executions/{run['id']}/task-status", body)


def load(client: Client, run: dict[str, Any], rate: float, seconds: float) -> dict[str, float]:
    """Report for so long; return when each mark was sent."""
    chance, names, sent = random.Random(tasks := len(run["names"])), run["names"][1:], {}
    begin = time.perf_counter()
    batches = int(rate * seconds / _BATCH)
    for number in range(batches):
        time.sleep(max(0.0, begin + number * _BATCH / rate - time.perf_counter()))
        report(
            client,
            run,
            [(name, chance.choice(("running", "completed"))) for name in chance.sample(names, min(_BATCH, tasks - 1))],
        )
        if number % max(1, round(rate / _BATCH / _MARKS_PER_SECOND)) == 0:
            mark = f"mark {number}"
            sent[mark] = time.time() * 1000
            report(client, run, [(run["names"][0], mark)])
    return sent


def measure(client: Client, run: dict[str, Any], login: dict[str, str], given: Any) -> list[str]:
    """Open the page, watch it under load, and return the lines of the report."""
    from tests.chromium import running_chromium

    with running_chromium() as browser:
        page = browser.new_page(base_url=client.url, viewport={"width": 1440, "height": 900})
        page.goto("/login/")
        page.get_by_label("User name").fill(login["username"])
        page.get_by_label("Password").fill(login["password"])
        page.keyboard.press("Enter")
        page.wait_for_url("/")
        page.goto(f"/executions/{run['id']}/")
        page.wait_for_selector("#live[data-live=live]")
        painted = page.evaluate(_PAINTED)
        page.evaluate(_WATCH, run["names"][0])
        sent: dict[str, float] = {}
        reporting = threading.Thread(target=lambda: sent.update(load(client, run, given.statuses, given.seconds)))
        reporting.start()
        page.wait_for_timeout(given.seconds * 1000 + 1500)
        reporting.join()
        watched = page.evaluate("() => window.watched")
        heap = page.evaluate("() => performance.memory.usedJSHeapSize / 2 ** 20")
    frames = sorted(watched["frames"])
    delays = [at - sent[mark] for mark, at in watched["marks"] if mark in sent]
    return [
        f"a run of {painted['rows']} tasks, {given.statuses:g} statuses a second for {given.seconds:g} s",
        f"first contentful paint       {painted['first']:7.0f} ms   loaded {painted['loaded']:.0f} ms",
        f"frames                       {len(frames) / (given.seconds + 1.5):7.0f} a second",
        f"frames over {_FELT_MS} ms            {sum(one > _FELT_MS for one in frames):7d} of {len(frames)}",
        f"slowest frame                {frames[-1]:7.0f} ms",
        f"from the report to the page  {median(delays):7.0f} ms p50   {quantiles(delays, n=20)[-1]:.0f} ms p95   "
        f"{len(delays)} of {len(sent)} marks seen",
        f"JavaScript's memory          {heap:7.0f} MiB",
    ]


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--tasks", type=int, default=1000)
    options.add_argument("--statuses", type=float, default=200, help="a second (default: 200)")
    options.add_argument("--seconds", type=float, default=20, help="of load (default: 20)")
    given = options.parse_args()
    with running_platform(given.data_dir) as client:
        from flowplatform import env

        login = json.loads((env.DATA_DIR / "demo.json").read_text())
        print("\n".join(measure(client, make_run(client, given.tasks), login, given)))


if __name__ == "__main__":
    main()
