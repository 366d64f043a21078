"""The run of `make bench-growth`: two databases in one PostgreSQL, in turn. Imported after Django is set up."""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.db import connection

from benchmarks.growth_reads import READS, Reader, plan_of
from benchmarks.growth_rows import Size, fill
from benchmarks.measuring import Figures, Meter, clients, measured
from benchmarks.runner import say
from benchmarks.seed import caught_statement
from benchmarks.servers import SERVERS, WEB_PROCESSES
from benchmarks.stage import Stage, free_port, stage
from benchmarks.workload import FLOWS, TASKS, Execution, Work
from executions.facts import facts_of
from executions.models import Flow
from executions.schemas import FlowDefinition, TaskDefinition
from executions.services import create_flow
from flowplatform import embedded, env, tenancy
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.services import authenticate_token
from flowplatform.processes import Program
from flowplatform.topology import HOST

Statement = tuple[str, dict[str, str]]  # of a status batch, and the parameters that are always the same

SMALL, LARGE = "small", "large"
BATCH = 10  # updates
_CLIENTS, _CONNECTIONS = 4, 2  # processes of the load generator, and of each: many, so that few requests are repeated


@dataclass(frozen=True)
class Write:
    """A way to write status batches: by bare SQL or over HTTP, to some executions or to all.

    Some are as many as the small database has, of any age. Reports about all executions that there ever were, at
    random, are the worst that can happen. Over HTTP it is not the size of the tables that shows then: a web process
    looks an execution up when it first hears of it, and within the run that is nearly every time.
    """

    over_http: bool
    to_all: bool

    @property
    def has_target(self) -> bool:
        """Whether both databases do the same work."""
        return not (self.over_http and self.to_all)

    @property
    def title(self) -> str:
        """The write in the table."""
        how = f"HTTP, {_CLIENTS * _CONNECTIONS} conn." if self.over_http else f"bare SQL, {WEB_PROCESSES} conn."
        return f"{how}, {'all executions' if self.to_all else 'some executions'}"


WRITES = {write.title: write for write in (Write(http, to_all) for http in (False, True) for to_all in (False, True))}


@dataclass(frozen=True)
class Plan:
    """What is measured, and for how long."""

    sizes: Mapping[str, Size]
    rounds: int
    seconds: float  # of a kind of write in one database, in one round
    warm_up: float  # seconds before
    reads: int  # of each kind in one database


@dataclass
class Side:
    """One of the two databases."""

    name: str
    size: Size
    url: str
    executions: list[Execution] = field(default_factory=list)
    port: int = 0
    reader: Reader | None = None
    figures: dict[str, list[Figures]] = field(default_factory=lambda: defaultdict(list))
    read_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def some(self, number: int) -> list[Execution]:
        """Return as many executions, of any age; the same ones every time."""
        return random.Random(7).sample(self.executions, number)


def run(plan: Plan) -> tuple[list[Side], dict[str, Any], dict[str, str]]:
    """Fill both databases and measure them in turn. Return them, the plans of their reads, and the settings."""
    say("Starting PostgreSQL and Valkey…")
    with stage() as here:
        actor = authenticate_token(here.token)
        assert actor is not None
        _make_flows(actor)
        sides = [_filled(here, name, size) for name, size in plan.sizes.items()]
        with _connected_to(sides[0]):
            execution = sides[0].executions[0]
            assert facts_of(actor, UUID(execution.id)).task_names  # remembered from here on: a batch is one statement
            statement = caught_statement(actor, execution)
        for side in sides:
            _serve(here, side)
        say("reads…")
        for number in range(plan.reads):
            _read(sides if number % 2 else sides[::-1])
        plans = {side.name: _plans(here.token, side) for side in sides}
        for number in range(plan.rounds):
            say(f"writes, round {number + 1} of {plan.rounds}…")
            _write_round(here, plan, sides if number % 2 else sides[::-1], number, statement)
        return sides, plans, here.postgresql()


def _make_flows(actor: Actor) -> None:
    definition = FlowDefinition(tasks=[TaskDefinition(name=f"task-{index}") for index in range(TASKS)])
    Flow.objects.all().delete()  # the demo's
    for _ in range(FLOWS):
        create_flow(
            actor=actor,
            organization_id=next(iter(actor.organization_ids or ())),
            display_name="Benchmark",
            description="",
            definition=definition,
        )


def _filled(here: Stage, name: str, size: Size) -> Side:
    """Make a copy of the database and fill it."""
    database = f"growth_{name}"
    own = connection.settings_dict["NAME"]
    flows = list(Flow.objects.order_by("pk").values_list("pk", flat=True))
    with tenancy.showing(tenancy.NOBODY), connection.cursor() as cursor:  # saying whose would be a transaction around
        cursor.execute(f"CREATE DATABASE {database} TEMPLATE {own}")
    side = Side(name, size, embedded.database_url(env.DATA_DIR).replace(f"/{own}?", f"/{database}?"))
    say(f"Filling the {name} database: {size.rows:,} history rows, {size.outputs:,} outputs…")
    with _connected_to(side):
        side.executions = fill(here.organization, flows, size, say)
    return side


@contextmanager
def _connected_to(side: Side) -> Iterator[None]:
    """Have Django's connection go to one of the databases."""
    own = connection.settings_dict["NAME"]
    connection.close()
    connection.settings_dict["NAME"] = f"growth_{side.name}"
    try:
        yield
    finally:
        connection.close()
        connection.settings_dict["NAME"] = own


def _serve(here: Stage, side: Side) -> None:
    """Start the web role for a database."""
    side.port = free_port()
    program = SERVERS["web"].program(env.DATA_DIR, side.port)
    settings = {
        "DATABASE_URL": side.url,
        "REDIS_URL": embedded.redis_url(env.DATA_DIR),
        "SECRET_KEY": embedded.secret_key(env.DATA_DIR),
        "ALLOWED_HOSTS": HOST,
    }
    here.start(side.name, Program(side.name, program.command, {**program.environment, **settings}))
    here.wait(side.port)
    side.reader = Reader(side.port, here.token, side.executions)


def _write_round(here: Stage, plan: Plan, sides: list[Side], number: int, statement: Statement) -> None:
    """Measure every write in both databases, one after the other."""
    for title, write in WRITES.items():
        for side in sides:
            with _connected_to(side), connection.cursor() as cursor:
                cursor.execute("TRUNCATE notifications_event")  # nobody relays, so that nothing else runs
            module = "benchmarks.generator" if write.over_http else "benchmarks.floor"
            with clients(module, list(_jobs(here, plan, side, number, write, statement))) as ready:
                figures = measured(ready, Meter(here.roots, side.name), None)
            if figures.errors:
                raise RuntimeError(f"{title}, {side.name}: {figures.first_error}")
            side.figures[title].append(figures)


def _read(sides: list[Side]) -> None:
    """Read everything once in both databases, one right after the other."""
    for read, path in READS.items():
        for side in sides:
            assert side.reader is not None
            side.read_ms[read].append(side.reader.read(path))


def _jobs(
    here: Stage, plan: Plan, side: Side, number: int, write: Write, statement: Statement
) -> Iterator[dict[str, Any]]:
    times = {"warm_up": plan.warm_up, "seconds": plan.seconds}
    executions = side.executions if write.to_all else side.some(plan.sizes[SMALL].executions)
    processes = _CLIENTS if write.over_http else WEB_PROCESSES
    for process in range(processes):
        path, seed = "/api/flow-executions/{execution}/task-status", number * processes + process
        work = vars(Work("status", BATCH, executions, seed, path))
        if not write.over_http:
            sql, parameters = statement
            yield {
                **times,
                "work": work,
                "database": side.url,
                "organization": here.organization,
                "actor": here.actor,
                "status_sql": sql,
                "status_parameters": parameters,
            }
        else:
            yield {**times, "work": work, "port": side.port, "token": here.token, "connections": _CONNECTIONS}


def _plans(token: str, side: Side) -> dict[str, Any]:
    with _connected_to(side):
        return {read: plan_of(path, token, side.executions) for read, path in READS.items()}
