"""One fault, tried: rows and sockets of its own, load, the fault, and everything that must hold afterwards."""

import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.faults import checks
from tests.faults.audience import Audience
from tests.faults.client import Answer, Client
from tests.faults.ledger import Ledger, Writer
from tests.faults.stage import LIVE, WEB, WORKERS, Stage

_QUIET = 1.5  # seconds with nothing but good answers

TASKS = [f"task-{number}" for number in range(8)]


@dataclass(frozen=True)
class Size:
    """How much of everything: the whole for `make faults`, a small form for `make test`."""

    seconds: float  # of load with processes being killed
    pause: float  # between two kills
    writers: int
    think: float  # seconds between two writes of a writer
    outage: float  # seconds that a server is away
    crowd: int  # sockets that reconnect
    lazy: int  # sockets that never read
    together: int  # writers on the same tasks
    rounds: int  # of them
    rolling: Sequence[str]  # processes that are replaced in turn
    patience: float  # the limits of time, times this: other tests share the machine with the small form


WHOLE = Size(
    seconds=60,
    pause=2,
    writers=6,
    think=0.01,
    outage=5,
    crowd=500,
    lazy=50,
    together=50,
    rounds=10,
    rolling=(*WEB, *LIVE, *WORKERS, "beat"),
    patience=1,
)
SMALL = Size(
    seconds=1,
    pause=1.5,
    writers=4,
    think=0.1,
    outage=1,
    crowd=50,
    lazy=5,
    together=50,
    rounds=2,
    rolling=(*WEB, LIVE[0], WORKERS[0]),
    patience=4,
)


@dataclass
class Result:
    """What a trial has shown, as it is written to the file."""

    fault: str
    test: str
    seconds: float = 0.0
    acknowledged: int = 0
    unknown: int = 0  # answers that were lost without a key to ask again with
    repeated: int = 0  # requests that were asked again with their key
    answers: dict[str, int] = field(default_factory=dict)
    longest: float = 0.0  # seconds of the longest answer
    sockets: int = 0
    reconnects: int = 0
    resets: int = 0
    recovery: float | None = None  # seconds from the end of the fault to the last answer that was no 200
    silence: float = 0.0  # the longest time without an acknowledged write
    converged: float = 0.0  # seconds from the last answer until every socket had everything
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Place:
    """A flow, and executions of it."""

    flow_id: str
    executions: Sequence[str]


class Trial:
    """What a story has at hand."""

    def __init__(self, stage: Stage, size: Size, result: Result) -> None:
        self.stage = stage
        self.size = size
        self.result = result
        self.ledger = Ledger()
        self.audience = Audience()
        self.places: list[Place] = []
        self._allowed = {200}
        self._over_at: float | None = None

    # --- What a story says --------------------------------------------------------------------------------------------

    @property
    def place(self) -> Place:
        """The first flow of the trial."""
        return self.places[0] if self.places else self.make_place(self.size.writers)

    def make_place(self, executions: int, tasks: Sequence[str] = TASKS) -> Place:
        """Make a flow and executions of it."""
        client = Client(self.stage.http_ports, self.stage.token)
        body = {"display_name": "Faults", "definition": {"tasks": [{"name": name} for name in tasks]}}
        flow_id = _created(client("POST", "/api/flows", body))
        queued = [_created(client("POST", "/api/flow-executions", {"flow_id": flow_id})) for _ in range(executions)]
        client.close()
        self.places.append(Place(flow_id, queued))
        return self.places[-1]

    def watch(self, number: int = 2, tokens: Sequence[str] = (), place: Place | None = None, wait: bool = True) -> None:
        """Open sockets on a flow, the first if none is named; wait until they have seen something."""
        flow_id = (place or self.place).flow_id
        watchers = self.audience.watch(self.stage.sockets_ports, flow_id, tokens or [self.stage.token], number)
        if wait:
            _wait(lambda: all(watcher.events for watcher in watchers), 60, "sockets that see the first event")

    def writer(self) -> Writer:
        """Return a new client that writes into the ledger."""
        return Writer(self.ledger, self.stage.http_ports, self.stage.token)

    @contextmanager
    def load(self, pause: float | None = None) -> Iterator[None]:
        """Have writers write, each to an execution of its own, for the duration of a with statement."""
        pause = self.size.think if pause is None else pause
        stopped = threading.Event()

        def write(execution_id: str) -> None:
            writer = self.writer()
            while not stopped.is_set():
                writer.write_something(execution_id, TASKS)
                time.sleep(pause)
            writer.close()

        with ThreadPoolExecutor(self.size.writers) as threads:
            working = [threads.submit(write, execution_id) for execution_id in self.place.executions]
            time.sleep(0.3)
            try:
                yield
            finally:
                stopped.set()
        for one in working:
            one.result()

    def together(self, number: int, act: Callable[[int, Writer], object]) -> None:
        """Have so many writers do something at the same moment."""
        barrier = threading.Barrier(number)

        def run(index: int) -> None:
            writer = self.writer()
            barrier.wait(30)
            act(index, writer)
            writer.close()

        with ThreadPoolExecutor(number) as threads:
            list(threads.map(run, range(number)))

    def over(self) -> None:
        """Say that the fault is over."""
        self._over_at = time.monotonic()

    def recover(self, seconds: float) -> None:
        """Say that the fault is over, and go on until all answers have been 200 for a while; hold that to a limit."""
        self.over()
        assert self._over_at is not None
        while time.monotonic() < self._over_at + seconds * self.size.patience:
            time.sleep(0.1)
            if time.monotonic() - max(self._over_at, self.ledger.last_failure()) > _QUIET:
                break
        self.limit("all answers are 200 again after", self.seconds_to_recover(), seconds)

    def delivery(self, what: str, most: float, place: Place | None = None) -> None:
        """Write something to a flow and hold the time until its sockets have it against a limit."""
        writer = self.writer()
        writer.report((place or self.place).executions[0], TASKS)
        writer.close()
        self.reached(what, most)

    def reached(self, what: str, most: float) -> None:
        """Hold the time until every socket has what was written so far against a limit."""
        self.limit(what, self._seconds_to_reach(most * self.size.patience), most)

    def soon_usual(self, what: str, usual: float, *, within: float) -> None:
        """Write until three deliveries in a row are as quick as usual; note how long that took."""
        begun = time.monotonic()
        writer, quick = self.writer(), 0
        while quick < 3 and time.monotonic() - begun < within * self.size.patience:
            writer.report(self.place.executions[0], TASKS)
            quick = quick + 1 if self._seconds_to_reach(within) < usual else 0
        writer.close()
        self.limit(what, time.monotonic() - begun if quick == 3 else float("inf"), within)

    def flood(self, mebibytes: int) -> None:
        """Publish so much: a large execution changes its status again and again."""
        client = Client(self.stage.http_ports, self.stage.token)
        large = {"flow_id": self.place.flow_id, "input": {"text": "x" * (512 * 1024)}}
        execution_id = _created(client("POST", "/api/flow-executions", large))
        for number in range(2 * mebibytes):
            status = ("running", "completed")[number % 2]
            answer = client("PATCH", f"/api/flow-executions/{execution_id}/status?status={status}")
            assert answer.status == 200, answer
        client.close()

    def seconds_to_recover(self) -> float:
        """Return the time from the end of the fault to the last answer that was no 200."""
        assert self._over_at is not None
        return max(0.0, self.ledger.last_failure() - self._over_at)

    def _seconds_to_reach(self, most: float) -> float:
        """Return how long it took until every socket had what is in the database; infinity if it was too long."""
        begun = time.monotonic()
        counts = self._events_of_flows()
        while any(len(one.events) < counts[one.flow_id] for one in self.audience.watchers):
            if time.monotonic() - begun > most:
                return float("inf")
            time.sleep(0.01)
        return time.monotonic() - begun

    def _events_of_flows(self) -> dict[str, int]:
        flows = [place.flow_id for place in self.places]
        with self.stage.postgres.connect() as database:
            return checks.events_of(database, flows)

    def may_answer(self, *statuses: int) -> None:
        """Allow other answers to writes than 200; 0 is a lost one."""
        self._allowed |= set(statuses)

    def limit(self, what: str, seconds: float, most: float) -> None:
        """Note a time, and make it a problem if it exceeds a limit."""
        self.result.notes.append(f"{what} {seconds:.2f} s (limit {most:g} s)")
        if seconds > most * self.size.patience:
            self.problem(f"{what} took {seconds:.2f} s, more than {most:g} s")

    def problem(self, text: str) -> None:
        self.result.problems.append(text)

    def note(self, text: str) -> None:
        self.result.notes.append(text)

    # --- What follows every story -------------------------------------------------------------------------------------

    def verify(self) -> None:
        """Check everything that must hold, and fill the result in."""
        begun = time.monotonic()
        flows = [place.flow_id for place in self.places]
        executions = [execution for place in self.places for execution in place.executions]
        with self.stage.postgres.connect() as database:
            problems = [
                *checks.settled(database, flows),
                *checks.converged(self.audience, self.stage.http_ports, self.stage.token, flows),
            ]
            self.result.converged = time.monotonic() - begun
            problems += checks.written(database, self.ledger, executions)
            problems += checks.derived(database, executions)
            problems += checks.told(database, executions)
            problems += checks.tagged(database, self.ledger, executions)
        self.result.problems += [*self.ledger.problems[:3], *problems]
        self._fill_in()

    def _fill_in(self) -> None:
        result, ledger, watchers = self.result, self.ledger, self.audience.watchers
        statuses = ledger.statuses()
        for status in statuses.keys() - self._allowed:
            seen = next(one.answer for one in ledger.seen if one.answer.status == status)
            self.problem(f"{statuses[status]} answers {status}: {str(seen.body)[:300]}")
        for one in ledger.seen:
            if one.answer.status == 503 and "retry-after" not in one.answer.headers:
                self.problem(f"a 503 without Retry-After: {one.answer}")
                break
        result.answers = {str(status or "lost"): number for status, number in sorted(statuses.items())}
        result.acknowledged, result.unknown = ledger.acknowledged, ledger.unknown
        result.repeated, result.longest = ledger.repeated, ledger.longest()
        result.silence = ledger.longest_silence()
        result.sockets = len(watchers)
        result.reconnects = sum(max(0, watcher.opened - 1) for watcher in watchers)
        result.resets = sum(watcher.resets for watcher in watchers)
        if self._over_at is not None:
            result.recovery = self.seconds_to_recover()

    def stop(self) -> None:
        self.audience.stop()


Story = Callable[[Trial], None]


@dataclass(frozen=True)
class Fault:
    """A fault by its name, and what happens."""

    name: str
    title: str  # for the table
    story: Story
    needs_nginx: bool = False

    @property
    def test(self) -> str:
        """The test that tries it."""
        return f"tests/test_faults.py::test_nothing_is_lost[{self.name}]"


def tried(stage: Stage, fault: Fault, size: Size) -> Result:
    """Try a fault and return what it has shown; the stage is whole again afterwards."""
    result = Result(fault.title, fault.test)
    begun = time.monotonic()
    trial = Trial(stage, size, result)
    try:
        fault.story(trial)
        trial.verify()
    except Exception as error:  # a table of all faults says so in its row, and goes on
        result.problems.append("".join(traceback.format_exception(error)))
    finally:
        with suppress(TimeoutError):
            trial.stop()
        stage.restore()
    result.seconds = time.monotonic() - begun
    return result


def _created(answer: Answer) -> str:
    assert answer.status == 201, answer
    created: str = answer.body["id"]
    return created


def _wait(truth: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not truth():
        assert time.monotonic() < deadline, f"no {what} within {seconds:.0f} s"
        time.sleep(0.02)
