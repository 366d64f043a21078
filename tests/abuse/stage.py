"""Where attacks take place: servers, their rows, bystanders, and what each attack came to."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.abuse.attack import Attack, Scene, good_request
from tests.abuse.bystander import Bystander
from tests.abuse.targets import Target, running
from tests.abuse.wire import exchange, has_answer, outcome_of

SERVERS = ("web", "live")


@dataclass(frozen=True)
class Row:
    """What an attack on a server came to."""

    group: str
    attack: str
    server: str
    test: str
    expected: str
    got: str
    why: str
    clients: int
    sent_bytes: int
    seconds: float
    memory_mib: float  # before
    growth_mib: float  # of the peak over that
    good: str  # the outcome of a good request right after it
    good_ms: float
    bystander_ms: float | None  # the slowest meanwhile; nobody asked in so short a time
    harmed: int  # bystanders' requests that were not answered with 200, and sockets that ended
    survived: bool  # by the same processes


class Stage:
    """Starts each server when it is first attacked."""

    def __init__(self, data_dir: Path, rows: dict[str, str], *, whole: bool) -> None:
        self._data_dir = data_dir
        self._database_rows = rows
        self.whole = whole
        self._stack = ExitStack()
        self._servers: dict[str, tuple[Target, Scene, Bystander]] = {}
        self.rows: list[Row] = []

    def close(self) -> None:
        self._stack.close()

    def server(self, name: str) -> tuple[Target, Scene, Bystander]:
        """Return a server, its scene and the bystander there."""
        if name not in self._servers:
            target = self._stack.enter_context(running(name, self._data_dir))
            scene = Scene(port=target.port, whole=self.whole, **self._database_rows)
            for _ in range(20):  # what is loaded with the first requests is no growth
                self._good(scene)
            self._servers[name] = target, scene, self._stack.enter_context(Bystander(name, scene))
        return self._servers[name]

    def run(self, server: str, attacks: Sequence[Attack], *, group: str = "", test: str = "") -> list[Row]:
        """Make attacks on a server at the same time, each by its number of clients, and tell of each."""
        target, scene, bystander = self.server(server)
        target.forget_peak()
        memory, begin = target.memory(), time.monotonic()
        launches = [attack for attack in attacks for _ in range(scene.crowd if attack.crowd else 1)]
        with ThreadPoolExecutor(len(launches)) as pool:
            results = list(pool.map(lambda attack: (attack.name, *attack.launch(scene)), launches))
        seconds, growth = time.monotonic() - begin, target.peak_memory() - memory
        sent = time.monotonic()
        good = self._good(scene)
        good_ms = (time.monotonic() - sent) * 1e3
        asked = bystander.during(begin)
        harmed = sum(each.status != 200 for each in asked) + (not bystander.is_watching())
        found = []
        for attack in attacks:
            mine = [result for result in results if result[0] == attack.name]
            found.append(
                Row(
                    group=group,
                    attack=attack.name,
                    server=server,
                    test=test,
                    expected=" | ".join(attack.expected(server)),
                    got=" / ".join(sorted({outcome for _, outcome, _ in mine})),
                    why=attack.why,
                    clients=len(mine),
                    sent_bytes=sum(size for *_, size in mine),
                    seconds=round(seconds, 2),
                    memory_mib=round(memory, 1),
                    growth_mib=round(growth, 1),
                    good=good,
                    good_ms=round(good_ms, 1),
                    bystander_ms=max((round((each.end - each.begin) * 1e3, 1) for each in asked), default=None),
                    harmed=harmed,
                    survived=target.survived(),
                )
            )
        self.rows += found
        return found

    def _good(self, scene: Scene) -> str:
        return outcome_of(exchange(scene.port, [good_request(scene)], seconds=10, is_done=has_answer))


def as_result(rows: Sequence[Row], machine: dict[str, Any]) -> dict[str, Any]:
    """Return what the result file holds."""
    return {**machine, "rows": [asdict(row) for row in rows]}
