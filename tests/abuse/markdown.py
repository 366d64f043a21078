"""The result of `make abuse` as it stands in docs/abuse.md: `.venv/bin/python -m tests.abuse.markdown`."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

RESULT = Path(__file__).parent / "latest.json"


def lines(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the machine, and a table for each kind of attack."""
    rows, machine = result["rows"], result["machine"]
    slowest = max(row["bystander_ms"] or 0 for row in rows)
    yield (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_mib'] / 1024:.0f} GiB, Python "
        f"{result['python']}, {result['measured_at'][:10]}: {len(rows)} attacks. Memory grew by "
        f"{max(row['growth_mib'] for row in rows):.0f} MiB at the most. The next good request took "
        f"{max(row['good_ms'] for row in rows):.0f} ms at the longest, and a bystander's meanwhile {slowest:.0f} ms. "
        f"Bystanders harmed: {sum(row['harmed'] for row in rows)}."
    )
    for group in dict.fromkeys(row["group"] for row in rows):
        yield f"\n### {group}\n"
        yield "| attack | server | answer | memory | next good | bystander | who says so |"
        yield "|---|---|---|---|---|---|---|"
        yield from (_line(row) for row in rows if row["group"] == group)


def _line(row: Mapping[str, Any]) -> str:
    crowd = f", {row['clients']} clients" if row["clients"] > 1 else ""
    cells = [
        f"`{_plain(row['attack'])}`{crowd}",
        row["server"],
        row["got"],
        f"{max(0.0, row['growth_mib']):+.0f} MiB",
        f"{row['good_ms']:.0f} ms",
        "-" if row["bystander_ms"] is None else f"{row['bystander_ms']:.0f} ms",
        _plain(row["why"]),
    ]
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("`", "'")


if __name__ == "__main__":
    for line in lines(json.loads(RESULT.read_text())):
        print(line)
