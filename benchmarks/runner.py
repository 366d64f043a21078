"""The run: starts everything once, then measures cell after cell while all others are idle."""

import sys
import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from benchmarks import yardsticks
from benchmarks.cells import FLOOR, PEER, YARDSTICK_FLOOR, Cell, all_cells, in_turn
from benchmarks.measuring import Figures, Meter, clients, measured
from benchmarks.packages import NotInstallableError
from benchmarks.procfs import families, peak_mib, proportional_mib
from benchmarks.servers import SERVERS
from benchmarks.stage import Stage, free_port
from benchmarks.workload import EXECUTIONS, Kind, Work
from flowplatform import embedded, env

_OVERHEAD_SECONDS = 0.6  # of a cell: its processes start, events get their numbers


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    servers: Sequence[str]
    yardsticks: bool
    kinds: Sequence[Kind]
    sizes: Sequence[int]
    connections: Sequence[int]
    rounds: int
    judged_rounds: int  # of the cells that a target is about, and of what they are compared with
    judged: Collection[str]  # those, as `Cell.work` names them
    seconds: float  # of one cell in one round
    warm_up: float  # seconds before
    only: Sequence[str] = ()
    executions: int = EXECUTIONS

    def groups(self, servers: Sequence[str], yardsticks: bool) -> list[list[Cell]]:
        """Return the cells of the servers that run."""
        return all_cells(
            servers=servers,
            yardsticks=yardsticks,
            kinds=self.kinds,
            sizes=self.sizes,
            connections=self.connections,
            only=self.only,
        )


@dataclass
class Outcome:
    """What a run has found."""

    rounds: dict[Cell, list[Figures]] = field(default_factory=lambda: defaultdict(list))
    left_out: list[str] = field(default_factory=list)
    idle: dict[str, float] = field(default_factory=dict)  # cores that each group keeps busy while nobody asks
    memory: list[dict[str, Any]] = field(default_factory=list)
    postgres_peak_mib: float = 0.0
    client_peak_mib: float = 0.0
    lost: dict[str, int] = field(default_factory=dict)  # rows that were answered and are not there

    def errors(self) -> list[str]:
        """Return what went wrong, a line each."""
        failed = [
            f"{cell.subject} {cell.work}: {figures.errors} errors, the first: {figures.first_error}"
            for cell, rounds in self.rounds.items()
            for figures in rounds
            if figures.errors
        ]
        return failed + [f"{count} {kind} rows too few or too many" for kind, count in self.lost.items() if count]


def judged_groups(groups: Sequence[Sequence[Cell]], judged: Collection[str]) -> list[list[Cell]]:
    """Return of each group the judged cells of servers with several processes, and what they are compared with."""
    found = []
    for group in groups:
        ours = [cell for cell in group if cell.work in judged and cell.subject in SERVERS]
        scaled = [cell for cell in ours if SERVERS[cell.subject].scaled]
        wanted = {other for cell in scaled for other in (cell, *map(cell.of, (FLOOR, YARDSTICK_FLOOR, PEER)))}
        found.append([cell for cell in group if cell in wanted])
    return [group for group in found if group]


class Runner:
    """Measures cells on a stage."""

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self._stage = stage
        self._plan = plan
        self._ports: dict[str, int] = {}
        self._yardsticks: yardsticks.Yardsticks | None = None
        self._seed = 0
        self.outcome = Outcome()

    def run(self) -> Outcome:
        """Start what is measured, measure everything, and count what came of it."""
        self._start()
        groups = self._plan.groups([name for name in self._ports if name in SERVERS], self._yardsticks is not None)
        self._announce(groups)
        before = self._stage.counts()
        for number in range(self._plan.judged_rounds):
            for group in groups if number < self._plan.rounds else judged_groups(groups, self._plan.judged):
                first = group[0]
                say(f"round {number + 1} of {self._plan.judged_rounds}: {first.kind} batches of {first.size}…")
                for cell in in_turn(group, number):
                    self.outcome.rounds[cell].append(self._measure(cell))
        self._count(before)
        self._note_memory()
        return self.outcome

    def _start(self) -> None:
        """Start the worker, the servers and the yardsticks; see what they cost while nobody asks them."""
        self._stage.start_background()
        for name in self._plan.servers:
            try:
                self._ports[name] = self._stage.launch(SERVERS[name])
            except NotInstallableError as error:
                self.outcome.left_out.append(f"{name}: {error}")
        if self._plan.yardsticks:
            self._start_yardsticks()
        self._stage.fill(self._plan.executions)  # while they start
        for name, port in self._ports.items():
            self._stage.wait(port, "/ping" if name == PEER else "/api/flows")
        self._stage.drain()
        meter = Meter(self._stage.roots, None)
        time.sleep(min(3.0, self._plan.seconds * 2))
        self.outcome.idle = meter.busy()[0]
        for line in self.outcome.left_out:
            say(f"left out: {line}")

    def _start_yardsticks(self) -> None:
        try:
            self._yardsticks = yardsticks.Yardsticks(embedded.owner_database_url(env.DATA_DIR))
        except yardsticks.AbsentError as error:
            self.outcome.left_out.append(f"the yardsticks: {error}")
            return
        port = free_port()
        self._stage.start(PEER, self._yardsticks.peer(port))
        self._ports[PEER] = port

    def _announce(self, groups: Sequence[Sequence[Cell]]) -> None:
        cells, plan = sum(map(len, groups)), self._plan
        more = sum(map(len, judged_groups(groups, plan.judged))) * max(0, plan.judged_rounds - plan.rounds)
        seconds = (cells * plan.rounds + more) * (plan.seconds + plan.warm_up + _OVERHEAD_SECONDS)
        say(
            f"{cells} cells, {plan.rounds} rounds of {plan.seconds:g} s each, {plan.judged_rounds} of those that a "
            f"target is about: about {seconds / 60:.1f} minutes from now."
        )

    def _measure(self, cell: Cell) -> Figures:
        self._stage.check()
        ours = cell.subject in SERVERS
        with nullcontext() if ours else self._stage.paused():
            alien = cell.subject == YARDSTICK_FLOOR
            figures = self._yardstick_floor(cell) if alien else self._with_clients(cell, ours)
        postgres = proportional_mib(families(self._stage.roots["postgres"]))
        self.outcome.postgres_peak_mib = max(self.outcome.postgres_peak_mib, postgres)
        self.outcome.client_peak_mib = max(self.outcome.client_peak_mib, figures.client_peak_mib)
        return figures

    def _with_clients(self, cell: Cell, ours: bool) -> Figures:
        module = "benchmarks.floor" if cell.subject == FLOOR else "benchmarks.generator"
        with clients(module, list(self._jobs(cell))) as ready:
            meter = Meter(self._stage.roots, cell.subject)
            return measured(ready, meter, self._stage.drain if ours else None)

    def _yardstick_floor(self, cell: Cell) -> Figures:
        assert self._yardsticks is not None
        throughput, p50_ms = self._yardsticks.floor(cell.size, cell.connections, self._plan.seconds)
        return Figures(throughput, p50_ms, answered=round(throughput * self._plan.seconds))

    def _jobs(self, cell: Cell) -> Iterator[Mapping[str, Any]]:
        """Yield what each client process is told: one per connection for the floor, else one for all connections."""
        times = {"warm_up": self._plan.warm_up, "seconds": self._plan.seconds}
        if cell.subject == FLOOR:
            for _ in range(cell.connections):
                yield {
                    **times,
                    "work": self._work(cell),
                    "database": self._stage.database,
                    "organization": self._stage.organization,
                    "actor": self._stage.actor,
                    "status_sql": self._stage.status_sql,
                    "status_parameters": self._stage.status_parameters,
                }
        else:
            yield {
                **times,
                "work": self._work(cell),
                "port": self._ports[cell.subject],
                "token": yardsticks.TOKEN if cell.subject == PEER else self._stage.token,
                "connections": cell.connections,
            }

    def _work(self, cell: Cell) -> Any:
        """Return work with a seed of its own: no two clients make the same tags."""
        self._seed += 1
        if cell.subject == PEER:
            executions, path, task = yardsticks.executions(), yardsticks.PATH, yardsticks.TASK
        else:
            executions, task = self._stage.executions, "task-{}"
            path = "/api/flow-executions/{execution}/task-status" if cell.kind == "status" else "/api/task-tags"
        return vars(Work(cell.kind, cell.size, executions, self._seed, path, task))

    def _count(self, before: Mapping[str, int]) -> None:
        """Compare the rows with the answers: what was answered is there, once."""
        expected = dict(before)
        for cell, rounds in self.outcome.rounds.items():
            if cell.subject == FLOOR or cell.subject in SERVERS:
                expected[cell.kind] += cell.size * sum(figures.answered for figures in rounds)
        if not any(figures.errors for rounds in self.outcome.rounds.values() for figures in rounds):
            after = self._stage.counts()
            self.outcome.lost = {kind: expected[kind] - after[kind] for kind in expected}

    def _note_memory(self) -> None:
        """Note the most memory that each process had, from its start to the end of the run."""
        for group, roots in self._stage.roots.items():
            peaks = [round(peak_mib(pid), 1) for pid in families(roots)]
            self.outcome.memory.append({"group": group, "peak_rss_mib": [peak for peak in peaks if peak]})
        self.outcome.memory.append({"group": "load generator", "peak_rss_mib": [self.outcome.client_peak_mib]})


def say(line: str) -> None:
    """Tell the person who waits; the table has stdout for itself."""
    print(line, file=sys.stderr, flush=True)
