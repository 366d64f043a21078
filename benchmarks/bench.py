"""A whole benchmark, from the options to the files. Imported after Django is set up."""

import json
from argparse import Namespace

from benchmarks import machine, plot, table
from benchmarks.results import TARGETS, report
from benchmarks.runner import Plan, Runner, say
from benchmarks.servers import DEFAULT, SERVERS
from benchmarks.stage import stage
from benchmarks.workload import FLOWS, KINDS, SIZES

_CONNECTIONS = (1, 8, 32)
_ROUNDS = 3
_JUDGED_ROUNDS = 9  # of what a target is about: these machines are noisy


def bench(given: Namespace) -> int:
    """Run, print the table, write the files; return 1 if anything but a plain answer was seen, else 0."""
    plan = _plan(given)
    about = machine.describe()
    say("Starting PostgreSQL, Valkey, the servers and the worker…")
    with stage() as here:
        about |= {"postgresql": here.postgresql()}
        outcome = Runner(here, plan).run()
    found = report(plan, outcome, about)
    for line in table.lines(found):
        print(line)
    whole = not (given.smoke or given.only or given.servers)
    _write(given, "latest" if whole else "partial", json.dumps(found, indent=1), plot.svg(found, TARGETS))
    return 1 if found["errors"] else 0


def _plan(given: Namespace) -> Plan:
    servers = given.servers or DEFAULT
    if unknown := [name for name in servers if name not in SERVERS]:
        raise SystemExit(f"There is no server {unknown[0]!r}: choose from {', '.join(SERVERS)}.")
    judged = sorted({f"{target.kind}:{target.size}:{target.connections}" for target in TARGETS})
    if given.smoke:
        return Plan(
            servers=servers, yardsticks=False, kinds=KINDS, sizes=(10,), connections=(1, 8), only=given.only,
            rounds=1, judged_rounds=2, judged=judged, seconds=0.2, warm_up=0.05, executions=FLOWS,
        )  # fmt: skip
    return Plan(
        servers=servers, yardsticks=not given.no_yardsticks, kinds=KINDS, sizes=SIZES, connections=_CONNECTIONS,
        only=given.only, rounds=given.rounds or _ROUNDS, judged_rounds=given.rounds or _JUDGED_ROUNDS, judged=judged,
        seconds=given.seconds or 2.0, warm_up=0.4,
    )  # fmt: skip


def _write(given: Namespace, name: str, text: str, picture: str) -> None:
    given.output.mkdir(parents=True, exist_ok=True)
    for suffix, content in (("json", text), ("svg", picture)):
        path = given.output / f"{name}.{suffix}"
        path.write_text(f"{content}\n")
        say(f"written: {path}")
