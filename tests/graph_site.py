"""The graph of the pages on a small site of its own, with the policy of the real one; and how long it takes.

python -m tests.graph_site         times in Chromium: of dagre in its worker, of plain layers, and until all is drawn
"""

import functools
import http.server
import random
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page

from tests.chromium import running_chromium

ROOT = Path(__file__).resolve().parents[1] / "flowplatform"
_FOLDERS = {
    "flowplatform": ROOT / "static" / "flowplatform",
    "vendor": ROOT / "static" / "vendor",
    "pages": ROOT / "pages" / "static" / "pages",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; worker-src {workers}; base-uri 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Graph</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/flowplatform/tokens.css">
<link rel="stylesheet" href="/flowplatform/base.css">
<link rel="stylesheet" href="/pages/graph.css">
<script type="module" src="/main.js"></script>
<main class="page"><section class="card" id="card"><div id="graph"></div></section></main>
"""
_SCRIPT = """
import { FlowGraph } from "./pages/graph.js";
import { layersOf, placeInLayers, workOf } from "./pages/graph-layers.js";
import { TaskGraph } from "./pages/graph-tasks.js";
import { meaningOf } from "./flowplatform/states.js";

const opened = [];
const graph = new FlowGraph(document.getElementById("graph"), { open: (name) => opened.push(name) });

const setStates = (pairs) => graph.setStates(new Map(pairs.map(([name, status]) => [name, meaningOf(status)])));

/** Time dagre in its worker, plain layers, and all of it until the first nodes are there. */
async function measure(tasks) {
  const { before } = new TaskGraph(tasks);
  const layers = layersOf({ before });
  const times = { work: workOf({ before }, layers) };
  let start = performance.now();
  placeInLayers({ before }, layers, "right");
  times.layers = performance.now() - start;
  start = performance.now();
  times.dagre = await new Promise((resolve) => {
    const worker = new Worker("/pages/graph-layout.js", { type: "module" });
    const end = (took) => { worker.terminate(); resolve(took); };
    worker.onmessage = () => end(performance.now() - start);
    worker.onerror = (event) => { event.preventDefault(); end(null); };
    setTimeout(() => end(null), 20_000);
    worker.postMessage({ before, direction: "right" });
  });
  start = performance.now();
  graph.show(tasks);
  while (!["drawing", "levels"].includes(document.getElementById("graph").dataset.view)) await nextFrame();
  await nextFrame();
  times.shown = performance.now() - start;
  return times;
}

const nextFrame = () => new Promise((resolve) => requestAnimationFrame(() => resolve()));

window.site = { graph, opened, setStates, measure };
"""

Task = dict[str, Any]


def task(name: str, *depends_on: str, title: str | None = None) -> Task:
    """Return a task as a flow definition has it."""
    return {"name": name, "depends_on": list(depends_on)} | ({"title": title} if title else {})


DIAMOND = [
    task("extract_text"),
    task("classify", "extract_text"),
    task("translate", "extract_text"),
    task("report", "classify", "translate"),
]


def make_chain(count: int) -> list[Task]:
    """Return tasks of which each waits for the one before."""
    return [task(f"step_{i}", *([f"step_{i - 1}"] if i else [])) for i in range(count)]


def make_fan(count: int) -> list[Task]:
    """Return one task, many that wait for it, and one that waits for all of those."""
    middle = [f"part_{i}" for i in range(count - 2)]
    return [task("split"), *(task(name, "split") for name in middle), task("join", *middle)]


def make_layered(count: int) -> list[Task]:
    """Return a square of tasks: each waits for one to three of the row before."""
    chance, width = random.Random(7), max(3, round(count**0.5))

    def before(i: int) -> Sequence[str]:
        first = (i // width - 1) * width
        return sorted({f"task_{first + chance.randrange(width)}" for _ in range(chance.randint(1, 3))})

    return [task(f"task_{i}", *(before(i) if i >= width else ())) for i in range(count)]


def make_random(count: int) -> list[Task]:
    """Return tasks of which each waits for one or two of any before it: its edges are long."""
    chance = random.Random(7)
    return [
        task(f"task_{i}", *sorted({f"task_{chance.randrange(i)}" for _ in range(chance.randint(1, 2))} if i else ()))
        for i in range(count)
    ]


@contextmanager
def running_site(*, workers: str = "'self'") -> Iterator[str]:
    """Serve the page, and yield its address. `workers` is what the policy says of them."""

    class Handler(http.server.SimpleHTTPRequestHandler):
        def end_headers(self) -> None:
            self.send_header("Content-Security-Policy", _POLICY.format(workers=workers))
            self.send_header("Cache-Control", "no-store")
            super().end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "index.html").write_text(_PAGE)
        (root / "main.js").write_text(_SCRIPT)
        for name, target in _FOLDERS.items():
            (root / name).symlink_to(target)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=folder)) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield f"http://127.0.0.1:{server.server_port}/"
            server.shutdown()
            thread.join()


def open_site(page: Page, url: str) -> Page:
    """Open the page and wait until its graph can be used."""
    page.goto(url)
    page.wait_for_function("() => window.site")
    return page


def main() -> None:
    """Print the times of some shapes and sizes."""
    print("| shape | tasks | work | dagre, ms | plain layers, ms | shown after, ms |\n|---|--:|--:|--:|--:|--:|")
    with running_site() as url, running_chromium() as browser:
        for make in (make_chain, make_fan, make_layered, make_random):
            for count in (11, 100, 300, 1000, 3000, 10_000):
                page = open_site(browser.new_page(), url)
                times = page.evaluate("tasks => site.measure(tasks)", make(count))
                cells = (times["work"], times["dagre"], times["layers"], times["shown"])
                row = " | ".join("fails" if cell is None else f"{cell:,.0f}" for cell in cells)
                print(f"| {make.__name__.removeprefix('make_')} | {count:,} | {row} |", flush=True)
                page.close()


if __name__ == "__main__":
    main()
