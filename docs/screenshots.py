"""`make screenshots`: the pictures of docs/pages.md, of a platform of its own with a few runs on it.

1. a platform starts in a temporary folder, and a worker's story is told to it (`_tell`)
2. every page of `PAGES` is opened in its looks: light and dark on a wide screen, light on a narrow one
3. docs/images gets one small PNG each

A new page is a line of `PAGES`; a page with something to click first has a function there.
"""

import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from playwright.sync_api import Browser, Page, StorageState

from tests.chromium import MissingChromiumError, running_chromium
from tests.stack import ROOT, free_port, wait_until

IMAGES = ROOT / "docs" / "images"
_LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1440, "height": 900}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1440, "height": 900}},
    "narrow": {"color_scheme": "light", "viewport": {"width": 360, "height": 740}},
}
_COLORS = 128  # of the palette; with more the files grow, and nothing looks better


@dataclass(frozen=True)
class Shot:
    """A page: its address (`{flow}` and `{run}` are ids), what is done before a picture, and which looks it has."""

    address: str
    prepare: Callable[[Page], None] = lambda page: None
    signed_in: bool = True
    looks: Sequence[str] = ("light", "dark", "narrow")


def _live(page: Page) -> None:
    page.locator("#live[data-live=live]").wait_for()


def _documentation(page: Page) -> None:
    page.locator(".opblock").first.wait_for()


_WIDE = ("light", "dark")
PAGES = {
    "sign-in": Shot("/login/", signed_in=False, looks=_WIDE),
    "flows": Shot("/"),
    "flow": Shot("/flows/{flow}/", looks=_WIDE),
    "execution": Shot("/executions/{run}/", _live),
    "review": Shot("/review/"),
    "admin": Shot("/admin/", looks=_WIDE),
    "api": Shot("/api/docs/", _documentation, looks=("light",)),
}


# --- What there is to see -----------------------------------------------------------------------------------------

_TASKS: dict[str, list[str]] = {
    "collect": [],
    "scan": ["collect"],
    "classify": ["scan"],
    "extract-lines": ["classify"],
    "extract-totals": ["classify"],
    "match-order": ["extract-lines"],
    "check-tax": ["extract-totals"],
    "approve": ["match-order", "check-tax"],
    "book": ["approve"],
}
_OTHERS = {"Nightly forecast": ["load", "train", "score"], "Archive old cases": ["select", "pack", "verify", "delete"]}


class _Worker:
    """Tells the platform about runs, as workers do."""

    def __init__(self, url: str, token: str) -> None:
        self._http = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"})

    def send(self, method: str, path: str, body: object) -> Any:
        return self._http.request(method, path, json=body).raise_for_status().json()

    def flow(self, name: str, description: str, tasks: Mapping[str, list[str]]) -> str:
        definition = {"tasks": [{"name": task, "depends_on": above} for task, above in tasks.items()]}
        body = {"display_name": name, "description": description, "definition": definition}
        return str(self.send("POST", "/api/flows", body)["id"])

    def run(self, flow: str, *steps: tuple[str, str], status: str = "", seconds: float = 0.1) -> str:
        """Queue an execution and report one step after the other, each of which takes about so many seconds."""
        run = str(self.send("POST", "/api/flow-executions", {"flow_id": flow, "input": {"month": "2026-11"}})["id"])
        for task, end in steps:
            for reported in dict.fromkeys(("running", end)):
                statuses = [{"task_name": task, "status": reported}]
                self.send("POST", f"/api/flow-executions/{run}/task-status", {"statuses": statuses})
                time.sleep(seconds)
        if status:
            self.send("PATCH", f"/api/flow-executions/{run}/status?status={status}", None)
        return run


def _tell(worker: _Worker) -> dict[str, str]:
    """Make flows and runs in every state; return the ids that addresses name."""
    for name, tasks in _OTHERS.items():
        chain = {task: tasks[max(place - 1, 0) : place] for place, task in enumerate(tasks)}
        flow = worker.flow(name, "", chain)
        worker.run(flow, *((task, "completed") for task in tasks), status="completed")
    flow = worker.flow("Invoices", "Reads what suppliers send, checks it against orders and books it.", _TASKS)
    names = list(_TASKS)
    worker.run(flow, *((name, "completed") for name in names), status="completed")
    worker.run(flow, *((name, "completed") for name in names[:4]), ("extract-totals", "failed"), status="failed")
    worker.run(flow, *((name, "completed") for name in names), status="completed")
    worker.run(flow)
    waiting = [("check-tax", "requires_review"), ("match-order", "awaiting_input")]
    worker.run(flow, *((name, "completed") for name in names[:5]), *waiting, status="running")
    steps = [*((name, "completed") for name in names[:5]), ("check-tax", "requires_review"), ("match-order", "running")]
    run = worker.run(flow, *steps, status="running", seconds=0.8)
    tag = {"operation": "add", "flow_execution_id": run, "task_name": "scan", "tag": "approved", "tag_type": "review"}
    worker.send("PATCH", "/api/task-tags", {"tags": [{**tag, "tag_metadata": {"note": "clean scan"}}]})
    return {"flow": flow, "run": run}


# --- The pictures -------------------------------------------------------------------------------------------------


@contextmanager
def _platform() -> Iterator[tuple[str, dict[str, str]]]:
    """Run a platform without its demo worker; yield its address and the demo's sign-in and token."""
    with tempfile.TemporaryDirectory(prefix="flowplatform-screenshots-") as folder:
        home = Path(folder) / "data"
        arguments = ["--port", str(free_port()), "--data-dir", str(home), "--no-demo"]
        up = subprocess.Popen([sys.executable, "manage.py", "up", *arguments], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: (home / "up.json").exists() or up.poll() is not None, seconds=60, what="the start")
            address = json.loads((home / "up.json").read_bytes())["url"]
            yield address, json.loads((home / "demo.json").read_bytes())
        finally:
            up.terminate()
            up.wait(30)


def _sign_in(browser: Browser, url: str, demo: Mapping[str, str]) -> StorageState:
    page = browser.new_page(base_url=url)
    page.goto("/login/")
    page.get_by_label("User name").fill(demo["username"])
    page.get_by_label("Password").fill(demo["password"])
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{url}/")
    state = page.context.storage_state()
    page.close()
    return state


def _take(page: Page, shot: Shot, address: str) -> bytes:
    page.goto(address, wait_until="networkidle")
    shot.prepare(page)
    page.wait_for_timeout(300)
    return page.screenshot(animations="disabled", caret="hide")


def _small(picture: bytes) -> bytes:
    """Return the PNG with a palette, which is a fraction of its size."""
    out = io.BytesIO()
    reduced = Image.open(io.BytesIO(picture)).convert("RGB").quantize(_COLORS, dither=Image.Dither.NONE)
    reduced.save(out, "PNG", optimize=True)
    return out.getvalue()


def main(wanted: list[str]) -> None:
    """Write the pictures of the wanted pages, of all without a name."""
    IMAGES.mkdir(exist_ok=True)
    with running_chromium() as browser, _platform() as (url, demo):
        ids = _tell(_Worker(url, demo["token"]))
        state = _sign_in(browser, url, demo)
        for name in wanted or PAGES:
            shot = PAGES[name]
            for look in shot.looks:
                signed_in = {"storage_state": state} if shot.signed_in else {}
                context = browser.new_context(
                    base_url=url,
                    locale="en-US",
                    timezone_id="UTC",
                    reduced_motion="reduce",
                    **_LOOKS[look],
                    **signed_in,
                )
                picture = _small(_take(context.new_page(), shot, shot.address.format(**ids)))
                path = IMAGES / f"{name}-{look}.png"
                path.write_bytes(picture)
                print(f"{path.relative_to(ROOT)}  {len(picture) / 1024:.0f} KiB", flush=True)
                context.close()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except MissingChromiumError as missing:
        sys.exit(str(missing))
