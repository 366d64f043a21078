"""What is measured: cells, each a subject with batches of one kind and size over a number of connections."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from benchmarks.servers import WEB_PROCESSES
from benchmarks.workload import Kind

FLOOR = "floor"
YARDSTICK_FLOOR = "yardstick-floor"
PEER = "fastapi"
FLOORS = (FLOOR, YARDSTICK_FLOOR)


@dataclass(frozen=True)
class Cell:
    """One cell of the table. For a floor the connections are processes with a connection each."""

    subject: str
    kind: Kind
    size: int
    connections: int

    @property
    def work(self) -> str:
        """What is done over how many connections, as `--only` names it."""
        return f"{self.kind}:{self.size}:{self.connections}"

    def of(self, subject: str) -> "Cell":
        """Return the cell of another subject to compare this one with.

        One connection is compared with one process of a floor, more of them with as many processes as the web role has.
        """
        connections = min(self.connections, WEB_PROCESSES) if subject in FLOORS else self.connections
        return Cell(subject, self.kind, self.size, connections)


def all_cells(
    *,
    servers: Sequence[str],
    yardsticks: bool,
    kinds: Iterable[Kind],
    sizes: Sequence[int],
    connections: Sequence[int],
    only: Sequence[str] = (),
) -> list[list[Cell]]:
    """Return the cells in groups of the same work, with the floors and the peer that each is compared with."""
    groups = []
    for kind in kinds:
        yards = [YARDSTICK_FLOOR, PEER] if yardsticks and kind == "status" else []
        for size in sizes:
            wanted = [cell for count in connections if _is_wanted(cell := Cell("", kind, size, count), only)]
            subjects = [FLOOR, *yards, *servers]
            groups.append(list(dict.fromkeys(cell.of(subject) for subject in subjects for cell in wanted)))
    return [group for group in groups if group]


def in_turn(group: Sequence[Cell], round_number: int) -> list[Cell]:
    """Return a group in another order for every round: nobody is always the one after the fastest."""
    shift = round_number * len(group) // 3 % len(group)
    order = [*group[shift:], *group[:shift]]
    return order[::-1] if round_number % 2 else order


def _is_wanted(cell: Cell, only: Sequence[str]) -> bool:
    return not only or any(fnmatchcase(cell.work, pattern) for pattern in only)
