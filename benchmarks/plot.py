"""The result as a picture: throughput as a share of the floor's, at one number of connections. Plain SVG."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

from benchmarks.cells import FLOOR, FLOORS
from benchmarks.table import TITLES

_WIDTH, _HEIGHT, _TOP, _LEFT, _BOTTOM = 900, 420, 70, 50, 50
_COLORS = ("#4c78a8", "#f58518", "#54a24b", "#b279a2", "#e45756", "#72b7b2", "#9d755d")
_STEP = 0.25  # between the lines
_RATIO = f"batches_per_second_to_{FLOOR}"


def svg(report: Mapping[str, Any], targets: Sequence[Any]) -> str:
    """Return a picture with a group of bars for each kind and size, and a mark where a target against the floor is."""
    connections = 8 if 8 in report["plan"]["connections"] else max(report["plan"]["connections"])
    cells = [cell for cell in report["cells"] if cell["connections"] == connections and cell["subject"] not in FLOORS]
    marks = {(each.kind, each.size): each.limit for each in targets if each.against == FLOOR and each.connections == 8}
    return "\n".join(_parts(cells, marks if connections == 8 else {}, connections)) + "\n"


def _parts(cells: Sequence[Any], marks: Mapping[tuple[str, int], float], connections: int) -> Iterator[str]:
    groups = sorted({(cell["kind"], cell["size"]) for cell in cells}, key=_order)
    subjects = [subject for subject in TITLES if any(cell["subject"] == subject for cell in cells)]
    values = {(cell["kind"], cell["size"], cell["subject"]): cell["ratios"].get(_RATIO) or 0.0 for cell in cells}
    top = max([1.0, *values.values()])
    slot = (_WIDTH - _LEFT) / max(len(groups), 1)
    bar = slot * 0.8 / max(len(subjects), 1)
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12">\n<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>'
    )
    yield _text(_LEFT, 22, f"Batches per second as a share of bare SQL, {connections} connections", size=15)
    for number, subject in enumerate(subjects):
        x, y = _LEFT + number % 4 * 210.0, 32 + number // 4 * 17.0
        yield f'<rect x="{x}" y="{y}" width="12" height="12" fill="{_COLORS[number % len(_COLORS)]}"/>'
        yield _text(x + 18, y + 10, TITLES[subject])
    for step in range(int(top / _STEP) + 1):
        y = _y(step * _STEP, top)
        yield f'<line x1="{_LEFT}" x2="{_WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield _text(_LEFT - 8, y + 4, f"{step * _STEP:.2f}", anchor="end")
    for place, (kind, size) in enumerate(groups):
        x = _LEFT + slot * (place + 0.1)
        for number, subject in enumerate(subjects):
            value = values.get((kind, size, subject))
            if value is not None:
                y, left = _y(value, top), x + bar * number
                color, height = _COLORS[number % len(_COLORS)], _y(0, top) - y
                yield f'<rect x="{left:.1f}" y="{y:.1f}" width="{bar - 2:.1f}" height="{height:.1f}" fill="{color}"/>'
                yield _text(left + bar / 2 - 1, y - 4, f"{value:.2f}", anchor="middle", size=10)
        if (kind, size) in marks:
            y, end = _y(marks[kind, size], top), x + slot * 0.8
            yield f'<line x1="{x:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="black" stroke-dasharray="4 3"/>'
        yield _text(x + slot * 0.4, _HEIGHT - _BOTTOM + 20, f"{kind}, {size} a batch", anchor="middle")
    yield _text(_LEFT, _HEIGHT - 10, "Dashed: what the web role has to reach. Ratios of one interleaved run.", size=11)
    yield "</svg>"


def _order(group: tuple[str, int]) -> tuple[bool, int]:
    return group[0] != "status", group[1]


def _y(value: float, top: float) -> float:
    return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _BOTTOM - _TOP)


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
