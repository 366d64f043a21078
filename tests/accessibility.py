"""axe-core on a page, in both themes and on a wide and a narrow screen."""

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Literal

from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Page, ViewportSize

from tests.browser import NARROW, WIDE

# Colours in the middle of a transition are nobody's choice.
_RUN = """async (exclude) => {
  await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  for (const animation of document.getAnimations())
    if (Number.isFinite(animation.effect.getComputedTiming().endTime)) animation.finish();
  return (await axe.run({exclude}, {resultTypes: ["violations"]})).violations;
}"""
_SHOWN = 5  # elements with the same problem
Scheme = Literal["light", "dark"]
_SERIOUS = ("serious", "critical")


def check_accessibility(
    page: Page,
    *,
    schemes: Sequence[Scheme] = ("light", "dark"),
    sizes: Sequence[ViewportSize] = (WIDE, NARROW),
    allowing: Collection[str] = (),
    leaving_out: Sequence[str] = (),
) -> None:
    """Fail with a readable list if axe finds something serious or critical.

    `allowing` are ids of rules; `leaving_out` are selectors of what there is more of than needs to be looked at.
    """
    before = page.viewport_size
    problems: dict[str, list[str]] = {}
    page.evaluate(AXE_SCRIPT)
    for size in sizes:
        page.set_viewport_size(size)
        for scheme in schemes:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            for problem in _problems(page, allowing, leaving_out):
                problems.setdefault(problem, []).append(f"{scheme} at {size['width']}")
    page.emulate_media(color_scheme="null", reduced_motion="null")
    if before:
        page.set_viewport_size(before)
    found = "\n".join(f"{problem}\n    in {', '.join(where)}" for problem, where in problems.items())
    assert not problems, f"{page.url} is not accessible:\n{found}"


def _problems(page: Page, allowing: Collection[str], leaving_out: Sequence[str]) -> Iterator[str]:
    for violation in page.evaluate(_RUN, [[selector] for selector in leaving_out]):
        if violation["impact"] in _SERIOUS and violation["id"] not in allowing:
            nodes = violation["nodes"]
            shown = [f"    {' '.join(map(str, node['target']))}: {_reason(node)}" for node in nodes[:_SHOWN]]
            more = [f"    and {len(nodes) - _SHOWN} more"] if len(nodes) > _SHOWN else []
            yield "\n".join([f"- {violation['help']} ({violation['id']}, {violation['impact']})", *shown, *more])


def _reason(node: dict[str, Any]) -> str:
    return "; ".join(check["message"] for check in [*node["any"], *node["all"], *node["none"]])
