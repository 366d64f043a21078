"""Crowds: many writers on the same rows, many sockets that come back at once, and some that never read."""

import asyncio
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from math import ceil
from pathlib import Path
from uuid import uuid4

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.faults.client import HOST, Client
from tests.faults.ledger import Writer, tag_body
from tests.faults.stage import LIVE
from tests.faults.trial import TASKS, Fault, Trial

_SAME = 20  # of one tag batch
_SOCKETS_PER_TOKEN = 100  # what the platform allows an actor in one process
_GROWTH_MIB = 150  # of a live process while nobody reads; without a limit the flood times the sockets would be there
_FLOOD_MIB = 24  # for each socket: more than its inbox (4 MiB) and the kernel's buffers on the way


def same_tasks(trial: Trial) -> None:
    """Fifty writers report the same hundred tasks, each in an order of its own."""
    names = [f"shared-{number}" for number in range(100)]
    place = trial.make_place(1, names)
    trial.watch()

    def report(index: int, writer: Writer) -> None:
        chance = random.Random(index)
        for number in range(trial.size.rounds):
            writer.report(place.executions[0], chance.sample(names, len(names)), with_key=number % 2 == 0)

    trial.together(trial.size.together, report)


def same_tags(trial: Trial) -> None:
    """The same tag batch twenty times at once: first each for itself, then all with one Idempotency-Key."""
    trial.watch()
    alone, keyed = trial.place.executions[:2]
    once = Counter(added=len(TASKS), already_exists=(_SAME - 1) * len(TASKS))
    for execution, headers, expected in (
        (alone, {}, once),
        (keyed, {"Idempotency-Key": uuid4().hex}, Counter(added=_SAME * len(TASKS))),
    ):
        found = _tagged_at_once(trial, execution, headers)
        if found != expected:
            trial.problem(f"{_SAME} equal tag batches with the headers {headers} did {dict(found)}")


def _tagged_at_once(trial: Trial, execution_id: str, headers: Mapping[str, str]) -> Counter[str]:
    """Send the same batch from many clients; count what its operations answered."""
    body = tag_body(execution_id, [("add", task, "shared") for task in TASKS])
    found: list[str] = []

    def send(_: int, __: Writer) -> None:
        client = Client(trial.stage.http_ports, trial.stage.token)
        while (answer := client("PATCH", "/api/task-tags", body, **headers)).status == 409:  # the first one still runs
            time.sleep(0.05)
        found.extend(tag["status"] for tag in trial.ledger.note(answer).body["tags"])
        client.close()

    trial.together(_SAME, send)
    trial.ledger.tags[execution_id] = {(task, "shared") for task in TASKS}
    trial.ledger.acknowledged_tag_batches += _SAME
    return Counter(found)


def sockets_reconnect(trial: Trial) -> None:
    """A crowd loses its live processes, one after the other, and comes back while events go on."""
    tokens = trial.stage.tokens(ceil(trial.size.crowd / _SOCKETS_PER_TOKEN))
    begun = time.monotonic()
    trial.watch(trial.size.crowd, tokens)
    trial.note(f"all open within {time.monotonic() - begun:.1f} s")
    with trial.load(pause=0.3):
        for name in set(LIVE) & set(trial.size.rolling):
            trial.stage.processes.kill(name)
            trial.stage.processes.start(name)
            time.sleep(1)
    trial.over()
    trial.reached("all sockets had everything", 15)


def sockets_never_read(trial: Trial) -> None:
    """Some sockets never read while large events come: memory stays bounded, they are closed, others see everything."""
    trial.watch()
    pids = {name: trial.stage.processes.pid(name) for name in LIVE}
    before = {name: _resident_mib(pid) for name, pid in pids.items()}
    lazy = trial.audience.run(_open_lazy(trial, trial.size.lazy))
    memory = _Peak(list(pids.values()))
    trial.flood(_FLOOD_MIB)
    trial.reached("those that read had everything", 15)
    codes = trial.audience.run(_read_on(lazy))
    peak = memory.stop()
    for name, pid in pids.items():
        grown = peak[pid] - before[name]
        trial.note(f"{name} grew by {grown:.0f} MiB at most (limit {_GROWTH_MIB} MiB)")
        if grown > _GROWTH_MIB:
            trial.problem(f"{name} grew by {grown:.0f} MiB")
    trial.note(f"those that did not read were closed with {dict(codes)}")
    if codes != Counter({4408: trial.size.lazy}):
        trial.problem(f"sockets that never read were closed with {dict(codes)}")
    if any(watcher.closes for watcher in trial.audience.watchers):
        trial.problem("sockets that read were closed")


async def _open_lazy(trial: Trial, number: int) -> list[ClientConnection]:
    """Open sockets with small buffers that stop reading after their first frame."""
    opened = []
    for index in range(number):
        ports = trial.stage.sockets_ports
        small = socket.socket()
        small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        small.connect((HOST, ports[index % len(ports)]))
        lazy = await connect(
            f"ws://{HOST}:{ports[index % len(ports)]}/ws/flows/{trial.place.flow_id}",
            additional_headers={"Authorization": f"Bearer {trial.stage.token}"},
            proxy=None,
            compression=None,
            max_size=None,
            sock=small,
            ping_interval=None,
        )
        await lazy.recv()
        lazy.transport.pause_reading()
        opened.append(lazy)
    return opened


async def _read_on(sockets: list[ClientConnection]) -> Counter[int]:
    """Read at last, and count the codes that the sockets were closed with."""

    async def drained(one: ClientConnection) -> int:
        one.transport.resume_reading()
        with suppress(ConnectionClosed, TimeoutError):
            async with asyncio.timeout(30):
                async for _ in one:
                    pass
        return one.close_code or 0

    return Counter(await asyncio.gather(*map(drained, sockets)))


class _Peak:
    """The most memory that processes have resident, looked at again and again."""

    def __init__(self, pids: list[int]) -> None:
        self._peak = dict.fromkeys(pids, 0.0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> dict[int, float]:
        self._stopped.set()
        self._thread.join()
        return self._peak

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            for pid, most in self._peak.items():
                self._peak[pid] = max(most, _resident_mib(pid))


def _resident_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


FAULTS = (
    Fault("same tasks", "50 writers on the same 100 tasks", same_tasks),
    Fault("same tags", "the same tag batch 20 times at once", same_tags),
    Fault("sockets reconnect", "500 sockets lose their live process and come back", sockets_reconnect),
    Fault("sockets never read", "50 sockets never read", sockets_never_read),
)
