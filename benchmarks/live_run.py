"""The run of `make bench-live`, from the options to the file. Imported after Django is set up.

1. servers, worker, beat, and the flows with their executions
2. the sockets open: memory before and after
3. a warm-up of the load, then the load that counts
4. every event gets its number and arrives: the offsets at the sockets are those of the REST API
"""

import json
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import cycle
from typing import Any
from uuid import UUID

import httpx

from benchmarks import live_table, machine
from benchmarks.live_memory import POSTGRES, Memory
from benchmarks.procfs import cpu_seconds, families
from benchmarks.runner import say
from benchmarks.servers import SERVERS
from benchmarks.stage import Stage, stage
from benchmarks.workload import TASKS, Execution, Work
from executions.schemas import FlowDefinition, TaskDefinition
from executions.services import create_flow, queue_execution
from flowplatform import env
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import Organization
from flowplatform.accounts.services import authenticate_token, issue_service_token
from flowplatform.topology import HOST

ONE_FLOW, MANY_FLOWS = "one-flow", "many-flows"
BATCH = 10
_WARM_UP = 3.0  # seconds of load that do not count: statements get prepared, pages of memory touched
_CONNECTIONS = 32
_PATIENCE = 20.0  # seconds, after the last event got its number
_SOCKETS_PER_TOKEN = 50  # an actor may have twice as many
_HOT_EXECUTIONS = 20


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    seconds: float
    sockets: int  # of each group
    flows: int  # of the second group
    batches_per_second: float
    groups: tuple[str, ...]
    web: bool


class Helper:
    """A client process that is spoken to by lines."""

    def __init__(self, module: str, job: Mapping[str, Any]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module], cwd=env.BASE_DIR, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.say(json.dumps(job))

    def say(self, line: str) -> None:
        """Tell it something."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def hear(self) -> Any:
        """Wait for its next answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("A client process has ended; what it said is above.")
        return json.loads(line)


@contextmanager
def helper(module: str, job: Mapping[str, Any]) -> Iterator[Helper]:
    """Have a client process for the duration of a with statement."""
    started = Helper(module, job)
    try:
        yield started
    finally:
        started.process.kill()
        started.process.communicate()


def run(given: Namespace) -> int:
    """Run, print the table, write the file; return 1 if anything was lost or went wrong, else 0."""
    plan = Plan(
        seconds=given.seconds,
        sockets=given.sockets,
        flows=given.flows,
        batches_per_second=given.statuses / BATCH,
        groups=(given.only,) if given.only else (ONE_FLOW, MANY_FLOWS),
        web=given.web,
    )
    about = machine.describe()
    say("Starting PostgreSQL, Valkey, the servers and the worker…")
    with stage() as here:
        about |= {"postgresql": here.postgresql()}
        found = {**about, "plan": asdict(plan), **Run(here, plan).run()}
    for line in live_table.lines(found):
        print(line)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(found, indent=1) + "\n")
    say(f"written: {given.output}")
    return 1 if found["errors"] else 0


class Run:
    """One run on a stage."""

    def __init__(self, here: Stage, plan: Plan) -> None:
        self._stage = here
        self._plan = plan
        self._organization = Organization.objects.get(pk=UUID(here.organization))
        actor = authenticate_token(here.token)
        assert actor is not None
        self._executions = dict(self._make_executions(actor))

    def run(self) -> dict[str, Any]:
        """Do everything; return what the report has beside the plan."""
        self._stage.start_background()
        sockets_port = self._stage.serve(SERVERS["daphne"])
        http_port = self._stage.serve(SERVERS["web"]) if self._plan.web else sockets_port
        self._load(http_port, _WARM_UP)
        self._stage.drain()  # an event of now that had no number yet would be one too many for the sockets
        memory = Memory(self._pids(), self._stage.roots["postgres"][0])
        before = memory.read()
        say(f"Opening {self._plan.sockets * len(self._plan.groups)} sockets…")
        began = time.perf_counter()
        with helper("benchmarks.live_sockets", self._sockets_job(sockets_port)) as sockets:
            opened = {**sockets.hear(), "seconds": time.perf_counter() - began}
            time.sleep(min(2.0, self._plan.seconds))
            idle = memory.read()
            load, seen = self._measure(http_port, sockets, memory)
            drained = self._stage.drain()
            offsets = self._offsets(http_port)
            sockets.say(json.dumps(offsets))
            checked = sockets.hear()
        return {
            "opened": opened,
            "load": load,
            "groups": seen["groups"],
            "seconds": seen["seconds"],
            "drain_seconds": drained,
            "memory": self._memory(memory, before, idle),
            "memory_course": memory.course(),
            "cpu_seconds": {**load.pop("cpu"), "sockets' clients": seen["cpu_seconds"], "load": load["cpu_seconds"]},
            "errors": self._errors(load, offsets, checked),
        }

    # --- The steps ----------------------------------------------------------------------------------------------------

    def _make_executions(self, actor: Actor) -> Iterator[tuple[str, list[Execution]]]:
        """Make the flows of each group, and what runs in them."""
        names = [TaskDefinition(name=f"task-{index}") for index in range(TASKS)]
        for group in self._plan.groups:
            flows, runs = (1, _HOT_EXECUTIONS) if group == ONE_FLOW else (self._plan.flows, 1)
            executions = []
            for _ in range(flows):
                flow = create_flow(
                    actor=actor,
                    organization_id=self._organization.pk,
                    display_name="Watched",
                    description="",
                    definition=FlowDefinition(tasks=names),
                )
                queued = [queue_execution(actor=actor, flow=flow, input={}) for _ in range(runs)]
                executions += [Execution(str(execution.pk), str(flow.pk)) for execution in queued]
            yield group, executions

    def _sockets_job(self, port: int) -> dict[str, Any]:
        watches = []
        for group, executions in self._executions.items():
            flows = cycle(dict.fromkeys(execution.flow_id for execution in executions))
            watches += [(group, next(flows)) for _ in range(self._plan.sockets)]
        tokens = [self._token(number) for number in range(1 + len(watches) // _SOCKETS_PER_TOKEN)]
        return {
            "port": port,
            "groups": list(self._executions),
            "watches": [(*watch, tokens[number // _SOCKETS_PER_TOKEN]) for number, watch in enumerate(watches)],
            "patience": _PATIENCE,
        }

    def _token(self, number: int) -> str:
        return issue_service_token(organization=self._organization, name=f"viewer-{number}", scopes=["read"])

    def _load(self, port: int, seconds: float) -> Any:
        """Report for so long, and return what came of it."""
        path = "/api/flow-executions/{execution}/task-status"
        job = {
            "port": port,
            "token": self._stage.token,
            "batches_per_second": self._plan.batches_per_second,
            "seconds": seconds,
            "connections": _CONNECTIONS,
            "works": [
                vars(Work("status", BATCH, executions, seed, path))
                for seed, executions in enumerate(self._executions.values())
            ],
        }
        with helper("benchmarks.live_load", job) as load:
            load.hear()
            load.say("go")
            return load.hear()

    def _measure(self, port: int, sockets: Helper, memory: Memory) -> tuple[Any, Any]:
        """Have the load and return what its side and the sockets saw."""
        warm_up = self._load(port, min(_WARM_UP, self._plan.seconds))
        say(f"{self._plan.batches_per_second * BATCH:.0f} statuses a second for {self._plan.seconds:g} s…")
        if self._plan.seconds >= 120:
            memory.tell = _tell
        pids = self._pids()
        before = cpu_seconds(self._everybody(pids))
        memory.start()
        sockets.say("begin")
        load = self._load(port, self._plan.seconds)
        sockets.say("end")
        seen = sockets.hear()
        memory.stop()
        after = cpu_seconds(self._everybody(pids))
        self._stage.check()
        load["warm_up_answered"] = warm_up["answered"]
        load["cpu"] = self._cpu(pids, before, after)
        return load, seen

    def _pids(self) -> dict[str, int]:
        """Return the processes by name, PostgreSQL's left out."""
        worker, beat = self._stage.roots["worker"]
        pids = {"live": self._stage.roots["daphne"][0], "worker": worker, "beat": beat}
        if self._plan.web:
            master, *processes = families(self._stage.roots["web"])
            pids |= {"web, master": master, **{f"web {number}": pid for number, pid in enumerate(processes, 1)}}
        return {**pids, "valkey": self._stage.roots["valkey"][0]}

    def _everybody(self, pids: Mapping[str, int]) -> list[int]:
        return [*pids.values(), *families(self._stage.roots["postgres"])]

    def _cpu(
        self, pids: Mapping[str, int], before: Mapping[int, float], after: Mapping[int, float]
    ) -> dict[str, float]:
        spent = {pid: seconds - before.get(pid, 0.0) for pid, seconds in after.items()}
        named = {name: spent.pop(pid, 0.0) for name, pid in pids.items()}
        return {**named, POSTGRES: sum(spent.values())}

    def _offsets(self, port: int) -> dict[str, int]:
        """Return the offset of every watched flow as the REST API tells it."""
        flow_ids = {execution.flow_id for executions in self._executions.values() for execution in executions}
        headers = {"Authorization": f"Bearer {self._stage.token}"}
        with httpx.Client(base_url=f"http://{HOST}:{port}", headers=headers) as client:
            answers = {one: client.get(f"/api/flows/{one}/events", params={"limit": 1}) for one in flow_ids}
        return {flow_id: answer.raise_for_status().json()["offset"] for flow_id, answer in answers.items()}

    def _memory(self, memory: Memory, before: Mapping[str, float], idle: Mapping[str, float]) -> list[dict[str, Any]]:
        return [
            {
                "process": name,
                "before_mib": round(before[name], 1),
                "idle_mib": round(idle[name], 1),
                "peak_mib": round(memory.peak(name), 1),
                "growth_mib_per_minute": round(memory.growth(name), 3),
            }
            for name in before
        ]

    def _errors(self, load: Any, offsets: Mapping[str, int], checked: Any) -> list[str]:
        """Return what went wrong, a line each: faults of sockets, and answered batches that are in no event."""
        errors = [
            f"{count} sockets of {group}: {fault}"
            for group, faults in checked["faults"].items()
            for fault, count in faults.items()
        ]
        if load["errors"]:
            errors.append(f"{load['errors']} batches failed, the first: {load['first_error']}")
        for place, (group, executions) in enumerate(self._executions.items()):
            flow_ids = {execution.flow_id for execution in executions}
            answered = load["answered"][place] + load["warm_up_answered"][place]
            numbered = sum(offsets[flow_id] - checked["begun"][flow_id] for flow_id in flow_ids)
            if numbered != answered:
                errors.append(f"{group}: {answered} batches were answered, and {numbered} events have numbers")
            statuses = sum(checked["statuses"][flow_id] for flow_id in flow_ids)
            if statuses != answered * BATCH:
                errors.append(f"{group}: {answered * BATCH} statuses were answered, and {statuses} arrived")
        return errors


def _tell(seconds: float, reading: Mapping[str, float]) -> None:
    """Say what the memory is."""
    say(f"{seconds:5.0f} s   " + "   ".join(f"{name} {mib:.1f}" for name, mib in reading.items()) + "   MiB")
