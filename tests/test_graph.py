"""The dependency graph of the pages, in a real browser, under the policy of the real pages."""

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from flowplatform.demo.tasks import flow_definition
from tests.accessibility import check_accessibility
from tests.browser import NARROW, WIDE, Complaints
from tests.graph_site import (
    DIAMOND,
    ROOT,
    Task,
    make_chain,
    make_fan,
    make_layered,
    open_site,
    running_site,
    task,
)
from tests.traces import REAL_TRACES, needs

_HOSTILE = [
    "<script>alert(1)</script>",
    "x" * 200,
    "👩‍👩‍👧‍👦" * 25,
    "مهمة طويلة من اليمين إلى اليسار",
    "__proto__",
    '"><b>',
]
_OPENING = re.compile(r"translate\(([-\d.]+) ([-\d.]+)\)")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running_site() as url:
        yield url


@pytest.fixture
def graph(chromium: Browser, complaints: Complaints, url: str) -> Iterator["Graph"]:
    with chromium.new_context(viewport=WIDE) as context:
        complaints.watch(context)
        yield Graph(open_site(context.new_page(), url))


class Box(NamedTuple):
    """Where a node is drawn, in units of the drawing."""

    left: float
    top: float
    width: float
    height: float

    def overlaps(self, other: "Box") -> bool:
        return (
            self.left < other.left + other.width
            and other.left < self.left + self.width
            and self.top < other.top + other.height
            and other.top < self.top + self.height
        )


class Graph:
    """The graph on its page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.root = page.locator("#graph")
        self.nodes = page.locator(".graph-node")

    def show(self, tasks: Sequence[Task]) -> None:
        self.page.evaluate("tasks => site.graph.show(tasks)", tasks)
        expect(self.nodes.first).to_be_visible()

    def set_states(self, **states: str | None) -> None:
        self.page.evaluate("pairs => site.setStates(pairs)", list(states.items()))

    def node(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=re.compile(rf"^{re.escape(name)}(, |$)"))

    def focused(self) -> str:
        """Return what a screen reader says of the node that has the focus."""
        return str(self.page.evaluate("document.activeElement.ariaLabel"))

    def press(self, *keys: str) -> str:
        for key in keys:
            self.page.keyboard.press(key)
        return self.focused()

    def fit(self) -> None:
        self.page.get_by_title("Fit the whole graph").click()
        self.page.wait_for_timeout(100)

    def boxes(self) -> dict[str, Box]:
        """Return the boxes of all nodes that are drawn, by the first word of their label."""
        found = self.nodes.evaluate_all(
            "nodes => nodes.map((node) => [node.ariaLabel, node.getAttribute('transform'),"
            " ...['width', 'height'].map((name) => Number(node.querySelector('rect').getAttribute(name)))])"
        )
        boxes = {}
        for label, transform, width, height in found:
            match = _OPENING.fullmatch(transform)
            assert match is not None
            boxes[label.split(",")[0]] = Box(float(match[1]), float(match[2]), width, height)
        return boxes

    def opened(self) -> Any:
        return self.page.evaluate("site.opened")


def check_places(boxes: dict[str, Box], tasks: Sequence[Task], *, direction: str = "right") -> None:
    """Assert that no node covers another, and that every task stands behind those it waits for."""
    for (one, box), (other, another) in itertools.combinations(boxes.items(), 2):
        assert not box.overlaps(another), f"{one} covers {other}"
    for each in tasks:
        for name in each["depends_on"]:
            box, before = boxes[each["name"]], boxes[name]
            if direction == "right":
                assert before.left + before.width < box.left
            else:
                assert before.top + before.height < box.top


def test_time_runs_to_the_right_and_nothing_overlaps(graph: Graph) -> None:
    graph.show(DIAMOND)
    check_places(graph.boxes(), DIAMOND)


def test_on_a_phone_time_runs_down(graph: Graph) -> None:
    graph.page.set_viewport_size(NARROW)
    graph.show(DIAMOND)
    check_places(graph.boxes(), DIAMOND, direction="down")
    assert graph.press("Tab", "Tab", "Tab", "Tab", "ArrowDown", "ArrowDown").startswith("report")


def test_the_drawing_turns_with_the_window_and_keeps_the_focus(graph: Graph) -> None:
    graph.show(DIAMOND)
    graph.node("classify").focus()
    graph.page.set_viewport_size(NARROW)
    expect(graph.page.locator(".graph-node").last).to_be_visible()
    graph.page.wait_for_function("() => document.querySelector('.graph-node rect').getAttribute('width') < 150")
    check_places(graph.boxes(), DIAMOND, direction="down")
    assert graph.focused().startswith("classify")


def test_titles_are_shown_instead_of_names_and_read_in_the_order_of_the_definition(graph: Graph) -> None:
    tasks = flow_definition()["tasks"]
    graph.show(tasks)
    boxes = graph.boxes()
    assert sorted(boxes) == sorted(each["title"] for each in tasks)
    assert boxes["Word statistics"].top < boxes["Link check"].top < boxes["Structure check"].top


@pytest.mark.parametrize("trace", REAL_TRACES, ids=lambda path: path.stem)
def test_recorded_pipelines_are_drawn_without_overlap(graph: Graph, trace: Any) -> None:
    needs(trace)
    specified = json.loads(trace.read_text())["workflow"]["specification"]["tasks"]
    tasks = [task(each["id"], *each["parents"]) for each in specified]
    graph.show(tasks)
    graph.fit()
    expect(graph.nodes).to_have_count(len(tasks))
    check_places(graph.boxes(), tasks)


def test_tasks_without_dependencies_stand_in_rows(graph: Graph) -> None:
    graph.show([*DIAMOND, *(task(f"lone_{i}") for i in range(12))])
    graph.fit()
    boxes = graph.boxes()
    check_places(boxes, DIAMOND)
    assert len({boxes[f"lone_{i}"].left for i in range(12)}) >= 4
    assert min(boxes[f"lone_{i}"].top for i in range(12)) > max(boxes[each["name"]].top for each in DIAMOND)
    graph.node("lone_1").focus()
    assert graph.press("ArrowRight") == "lone_2"
    assert graph.press("ArrowLeft", "ArrowLeft", "ArrowUp").startswith("extract_text")
    assert graph.press("ArrowDown") == "lone_0"


def test_states_show_as_colour_glyph_and_words_and_only_changes_are_drawn(graph: Graph) -> None:
    graph.show(DIAMOND)
    assert graph.node("classify").get_attribute("data-state") is None
    graph.set_states(extract_text="completed", classify="running", translate="on a break")
    expect(graph.node("extract_text, completed")).to_have_attribute("data-state", "completed")
    expect(graph.node("classify, running, after extract_text").locator(".graph-glyph")).to_have_text("●")
    expect(graph.node("translate, on a break")).to_have_attribute("data-state", "other")
    expect(graph.node("report, not started, after classify, translate")).to_have_count(1)
    graph.page.evaluate(
        "window.seen = []; new MutationObserver((records) => seen.push(...records.map((record) =>"
        " record.target.parentElement.closest('.graph-node, svg').ariaLabel)))"
        ".observe(document.querySelector('svg'), { subtree: true, attributes: true, childList: true })"
    )
    graph.set_states(extract_text="completed", classify="failed", translate="on a break")
    expect(graph.node("classify, failed")).to_have_attribute("data-state", "failed")
    changed = graph.page.evaluate("[...new Set(seen)]")
    assert set(changed) <= {"classify, failed, after extract_text", "Dependencies of 4 tasks"}


def test_what_runs_moves_only_while_few_run_and_motion_is_welcome(graph: Graph) -> None:
    graph.show(DIAMOND)
    animation = "name => getComputedStyle(document.querySelector('[data-state=running] .graph-glyph')).animationName"
    graph.set_states(classify="running")
    assert graph.page.evaluate(animation) == "breathe"
    graph.page.emulate_media(reduced_motion="reduce")
    assert graph.page.evaluate(animation) == "none"
    graph.page.emulate_media(reduced_motion="no-preference")
    graph.set_states(classify="running", **{f"other_{i}": "running" for i in range(12)})
    assert graph.page.evaluate(animation) == "none"


def test_hostile_names_are_text(graph: Graph) -> None:
    tasks = [task(name, *_HOSTILE[:i][-1:], title=f"<img src=x>{name}") for i, name in enumerate(_HOSTILE)]
    graph.show(tasks)
    graph.page.evaluate("states => site.setStates(states)", [[name, name] for name in _HOSTILE])
    graph.fit()
    expect(graph.nodes).to_have_count(len(_HOSTILE))
    titles = graph.page.locator(".graph-node > title").all_text_contents()
    assert all(any(name in title for title in titles) for name in _HOSTILE)
    assert graph.root.locator("script, img, b").count() == 0
    widths = graph.page.locator(".graph-name").evaluate_all("names => names.map((name) => name.getBBox().width)")
    assert max(widths) < 192 - 28
    graph.nodes.first.click()
    assert graph.opened() == [_HOSTILE[0]]


def test_the_keyboard_walks_along_the_edges(graph: Graph) -> None:
    graph.show(DIAMOND)
    graph.set_states(extract_text="completed")
    assert graph.press("Tab", "Tab", "Tab", "Tab") == "extract_text, completed"
    assert graph.press("ArrowRight", "ArrowDown") == "translate, not started, after extract_text"
    assert graph.press("ArrowDown") == "translate, not started, after extract_text"
    assert graph.press("ArrowUp") == "classify, not started, after extract_text"
    assert graph.press("ArrowRight").startswith("report")
    assert graph.press("Home").startswith("extract_text")
    assert graph.press("End").startswith("report")
    assert graph.press("ArrowLeft", "ArrowLeft", "ArrowLeft").startswith("extract_text")
    graph.press("Enter", "ArrowRight", " ")
    assert graph.opened() == ["extract_text", "classify"]
    assert graph.page.locator(".graph-node[tabindex='0']").count() == 1
    assert graph.press("Tab") == "None"  # one stop


def test_keys_and_buttons_zoom(graph: Graph) -> None:
    graph.show(make_chain(30))

    def width() -> int:
        return int(graph.page.locator("svg.graph-drawing").get_attribute("width") or 0)

    start = width()
    graph.node("step_0").focus()
    graph.press("-")
    smaller = width()
    assert smaller < start
    graph.press("+", "+")
    assert width() > start
    graph.press("0")
    scroller = graph.page.locator(".graph-scroll")
    assert width() <= scroller.evaluate("node => node.clientWidth + 1")
    assert graph.press("Control+0").startswith("step_0")  # the browser's own zoom is not taken


def test_a_selected_task_is_marked_and_in_view(graph: Graph) -> None:
    graph.show(make_chain(60))
    expect(graph.node("step_59")).to_have_count(0)
    graph.page.evaluate("site.graph.select('step_59')")
    expect(graph.node("step_59")).to_have_attribute("aria-current", "true")
    expect(graph.node("step_59")).to_be_in_viewport()
    graph.page.evaluate("site.graph.select(null)")
    expect(graph.page.locator("[aria-current]")).to_have_count(0)


def test_a_mouse_pulls_the_view_without_opening_anything(graph: Graph) -> None:
    graph.show(make_chain(60))
    graph.node("step_2").hover()
    graph.page.mouse.down()
    graph.page.mouse.move(100, 200, steps=4)
    graph.page.mouse.up()
    assert graph.page.locator(".graph-scroll").evaluate("node => node.scrollLeft") > 100
    assert graph.opened() == []


def test_a_thousand_tasks_are_drawn_and_only_those_in_view(graph: Graph) -> None:
    tasks = make_layered(1000)
    graph.page.evaluate("tasks => site.graph.show(tasks)", tasks)
    expect(graph.nodes.first).to_be_visible(timeout=30_000)
    assert graph.nodes.count() < 500
    check_places(graph.boxes(), [])
    graph.set_states(task_999="failed")
    graph.page.evaluate("site.graph.select('task_999')")
    expect(graph.node("task_999, failed")).to_be_in_viewport()


def test_a_chain_too_deep_for_the_library_is_drawn_all_the_same(graph: Graph) -> None:
    graph.page.evaluate("tasks => site.graph.show(tasks)", make_chain(2500))
    expect(graph.node("step_0")).to_be_visible(timeout=30_000)
    graph.node("step_0").focus()
    assert graph.press("End") == "step_2499, after step_2498"


@pytest.mark.slow
def test_ten_thousand_tasks_are_listed_by_level(graph: Graph) -> None:
    graph.page.evaluate("tasks => site.graph.show(tasks)", make_fan(10_000))
    expect(graph.root).to_contain_text("10,000 tasks with 19,996 dependencies are too many for a drawing that helps.")
    levels = graph.page.locator(".graph-levels > li")
    expect(levels).to_have_count(3)
    graph.set_states(split="completed", part_7="failed")
    expect(levels.nth(1)).to_contain_text("1 failed")
    levels.nth(1).locator("summary").click()
    part = graph.page.get_by_role("button", name="part_7, failed, after split", exact=True)
    expect(part).to_be_visible()
    part.click()
    assert graph.opened() == ["part_7"]
    graph.page.get_by_role("button", name="Show more (9,798 tasks)").click()
    expect(levels.nth(1).locator(".graph-level-task")).to_have_count(400)
    graph.set_states(split="completed", part_7="completed")
    expect(part).to_have_count(0)
    expect(levels.nth(1)).to_contain_text("1 completed")


@pytest.mark.parametrize("is_missing", [True, False], ids=["missing", "forbidden"])
def test_without_a_worker_there_is_a_plainer_drawing(
    chromium: Browser, complaints: Complaints, *, is_missing: bool
) -> None:
    with running_site(workers="'self'" if is_missing else "'none'") as url, chromium.new_context() as context:
        complaints.watch(context)
        complaints.expect("404", "Content Security Policy", "net::ERR_", "graph-layout")
        page = context.new_page()
        if is_missing:
            page.route("**/graph-layout.js", lambda route: route.fulfill(status=404))
        graph = Graph(open_site(page, url))
        tasks = make_layered(60)
        graph.show(tasks)
        graph.fit()
        expect(graph.nodes).to_have_count(60)
        check_places(graph.boxes(), tasks)


def test_a_hidden_graph_is_drawn_once_it_shows(graph: Graph) -> None:
    graph.page.evaluate("document.getElementById('card').hidden = true")
    graph.page.evaluate("tasks => site.graph.show(tasks)", DIAMOND)
    graph.set_states(classify="failed")
    graph.page.evaluate("document.getElementById('card').hidden = false")
    expect(graph.node("classify, failed")).to_be_visible()


def test_the_newest_tasks_win_and_the_same_again_change_nothing(graph: Graph) -> None:
    graph.page.evaluate(
        "([one, other]) => { site.graph.show(one); site.graph.show(other) }", [make_chain(300), DIAMOND]
    )
    expect(graph.nodes).to_have_count(4)
    graph.node("classify").focus()
    graph.show(DIAMOND)
    assert graph.focused().startswith("classify")
    graph.page.evaluate("site.graph.show([])")
    expect(graph.root).to_contain_text("This flow has no tasks.")


def test_the_graph_is_accessible(graph: Graph) -> None:
    graph.show(DIAMOND)
    graph.set_states(extract_text="completed", classify="requires_review", translate="failed")
    graph.page.evaluate("site.graph.select('classify')")
    check_accessibility(graph.page)


def test_the_layout_library_is_the_one_that_its_readme_names() -> None:
    folder = ROOT / "static" / "vendor"
    digest = hashlib.sha256((folder / "dagre" / "dagre.esm.js").read_bytes()).hexdigest()
    assert digest in (folder / "README.md").read_text()
