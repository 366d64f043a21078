"""Nobody asks for more than their share: over all processes, whatever they claim to be, and while Valkey is away."""

import asyncio
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import httpx
import pytest
import redis
from django.conf import settings as project
from django.db import OperationalError, connection, transaction
from django.http import HttpResponse
from django.test import Client
from limits import parse
from pytest_django import Settings

from executions.models import FlowExecution
from flowplatform.accounts.models import Organization
from flowplatform.embedded.place import Place
from flowplatform.throttling import allowances, store
from flowplatform.throttling.addresses import UNKNOWN, counted_address
from flowplatform.throttling.allowances import Allowance
from flowplatform.throttling.store import SharedStore
from tests.builders import (
    Api,
    error_of,
    make_execution,
    make_flow,
    make_member,
    make_organization,
    make_token,
    statuses,
)
from tests.faults.servers import Valkey
from tests.servers import DATA_DIR
from tests.stack import ROOT, Stack, free_port, wait_until
from tests.test_admin import text
from tests.test_sockets import close_code_of, frame_from, watching

HEADERS = ("RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy")


def new_address() -> str:
    """An IPv6 network that nobody has asked from."""
    digits = uuid4().hex
    return f"2001:db8:{digits[:4]}:{digits[4:8]}::1"


# --- Allowances ---------------------------------------------------------------------------------------------------


class Counted(SharedStore):
    """The run's own Valkey, and how often it was asked."""

    def __init__(self) -> None:
        super().__init__(project.LIMITS_URL)
        self.asked = 0

    def add(self, key: str, amount: int, seconds: int) -> int | None:
        self.asked += 1
        return super().add(key, amount, seconds)


class Away(SharedStore):
    """A Valkey that is never there."""

    def __init__(self) -> None:
        super().__init__("unix:///nowhere")

    def add(self, key: str, amount: int, seconds: int) -> int | None:
        return None


def spend_all(allowance: Allowance, key: str) -> int:
    """Spend until nothing is left, and return how much there was."""
    spent = 0
    while allowance.spend(key).allowed:
        spent += 1
    return spent


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process wait for Valkey: on a busy machine it would go on by itself."""
    monkeypatch.setattr(store, "ANSWER_SECONDS", 10)


@pytest.mark.parametrize("amount", [1, 5, 30, 1_000, 20_000])
def test_all_of_an_allowance_can_be_spent_and_no_more(amount: int) -> None:
    allowance = Allowance("test", parse(f"{amount}/day"), Counted())
    key = uuid4().hex
    assert spend_all(allowance, key) == amount
    assert allowance.is_spent(key)
    assert not allowance.is_spent("another")


def test_the_store_is_asked_seldom() -> None:
    valkey = Counted()
    allowance = Allowance("test", parse("40000/day"), valkey)
    key = uuid4().hex
    for _ in range(10_000):
        assert allowance.spend(key).allowed
    assert valkey.asked <= 20


def test_who_has_spent_all_is_refused_without_a_question() -> None:
    valkey = Counted()
    allowance = Allowance("test", parse("10/day"), valkey)
    key = uuid4().hex
    spend_all(allowance, key)
    asked = valkey.asked
    assert not any(allowance.spend(key).allowed for _ in range(1_000))
    assert valkey.asked == asked


def test_processes_and_threads_that_share_an_allowance_never_spend_more_together() -> None:
    rate, key = parse("2000/day"), uuid4().hex
    processes = [Allowance("test", rate, Counted()) for _ in range(4)]
    with ThreadPoolExecutor(8) as threads:
        spent = list(threads.map(lambda number: spend_all(processes[number % 4], key), range(8)))
    assert sum(spent) == 2_000
    assert all(allowance.is_spent(key) for allowance in processes)


def test_what_a_process_takes_and_does_not_spend_is_little() -> None:
    rate, key = parse("1000/day"), uuid4().hex
    idle, busy = (Allowance("test", rate, Counted()) for _ in range(2))
    for _ in range(200):
        idle.spend(key)
    assert 1_000 - 200 - 100 <= spend_all(busy, key) <= 1_000 - 200


def test_the_next_window_begins_with_all_of_it() -> None:
    now = [1_000_000.0]
    allowance = Allowance("test", parse("7/10 seconds"), Counted(), clock=lambda: now[0])
    key = uuid4().hex
    assert spend_all(allowance, key) == 7
    assert allowance.spend(key) == (False, 7, 0, 10, 10)
    now[0] += 9.5
    assert allowance.spend(key) == (False, 7, 0, 1, 10)
    now[0] += 0.5
    assert spend_all(allowance, key) == 7


def test_while_the_store_is_away_each_process_has_the_whole_amount() -> None:
    rate, key = parse("100/day"), uuid4().hex
    assert [spend_all(Allowance("test", rate, Away()), key) for _ in range(2)] == [100, 100]


def test_a_flood_of_addresses_takes_no_more_memory_than_so_many() -> None:
    allowance = Allowance("test", parse("100/day"), Away())
    for number in range(3 * allowances.MOST_KEYS):
        allowance.spend(f"address {number}")
    assert len(allowance._purses) <= allowances.MOST_KEYS
    assert allowance.spend("address 0").remaining == 99  # forgotten, and counted anew


@pytest.mark.parametrize(
    ("text", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:DB8:1:2::", "2001:db8:1:2::"),
        ("", UNKNOWN),
        ("192.0.2.7, 198.51.100.1", UNKNOWN),
        ("fe80::1%eth0", "fe80::"),
        ("\0", UNKNOWN),
    ],
)
def test_what_an_address_counts_as(text: str, counted: str) -> None:
    assert counted_address(text) == counted


# --- Requests -----------------------------------------------------------------------------------------------------


@pytest.fixture
def limited(settings: Settings) -> Callable[..., None]:
    def limited(**rates: str) -> None:
        settings.RATE_LIMITS = {**settings.RATE_LIMITS, **rates}

    return limited


def ask(address: str, path: str = "/api/flows", **headers: str) -> HttpResponse:
    answer = Client(REMOTE_ADDR=address).get(path, headers=headers)
    assert isinstance(answer, HttpResponse)
    return answer


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_an_answer_of_the_api_says_what_is_left(organization: Organization, limited: Callable[..., None]) -> None:
    limited(token="5/day")
    api = Api(make_token(organization))
    for left in (4, 3):
        answer = api.get("/api/flows")
        limit, remaining, reset, policy = (answer[name] for name in HEADERS)
        assert (limit, remaining, policy) == ("5", str(left), "5;w=86400")
        assert 0 < int(reset) <= 86_400


def test_one_request_too_many_is_429_with_the_time_to_wait(
    organization: Organization, stranger: Api, limited: Callable[..., None]
) -> None:
    limited(token="3/day")
    api = Api(make_token(organization))
    execution = make_execution(make_flow(organization))
    batches = f"/api/flow-executions/{execution.pk}/task-status"
    for answer in (api.get("/api/flows"), api.get("/api/flows"), api.post(batches, statuses(("extract", "running")))):
        assert answer.status_code == 200
    for refused in (api.get("/api/flows"), api.post(batches, statuses(("extract", "failed")))):
        assert refused.status_code == 429
        assert error_of(refused)["code"] == "rate_limited"
        assert refused["Retry-After"] == refused["RateLimit-Reset"]
        assert refused["RateLimit-Remaining"] == "0"
    assert stranger.get("/api/flows").status_code == 200
    assert Api(make_token(organization)).get("/api/flows").status_code == 200


def test_an_organization_shares_one_allowance_and_a_stranger_has_another(
    organization: Organization, stranger: Api, limited: Callable[..., None]
) -> None:
    limited(organization="4/day")
    first, second = (Api(make_token(organization)) for _ in range(2))
    assert [api.get("/api/flows").status_code for api in (first, second) * 2] == [200] * 4
    member = Api(user=make_member(organization))
    assert [api.get("/api/flows").status_code for api in (first, second, member)] == [429] * 3
    assert stranger.get("/api/flows").status_code == 200


def test_a_token_for_every_organization_is_charged_to_none_of_them(
    organization: Organization, limited: Callable[..., None]
) -> None:
    limited(organization="2/day")
    system = Api(make_token(None))
    assert [system.get("/api/flows").status_code for _ in range(4)] == [200] * 4


def test_all_tokens_of_an_address_share_its_allowance(organization: Organization, limited: Callable[..., None]) -> None:
    limited(address="4/day")
    tokens = [make_token(organization), make_token(make_organization())]
    here, elsewhere = new_address(), new_address()
    assert [ask(here, **bearer(token)).status_code for token in tokens * 3] == [200] * 4 + [429] * 2
    assert ask(elsewhere, **bearer(tokens[0])).status_code == 200


def test_a_person_has_one_allowance_for_pages_api_and_admin(
    organization: Organization, limited: Callable[..., None]
) -> None:
    limited(person="3/day")
    user, other = make_member(organization), make_member(organization)
    client = Client()
    client.force_login(user)
    assert [client.get(path).status_code for path in ("/", "/api/flows", "/admin/login/")] == [200, 200, 200]
    page = client.get("/")
    assert (page.status_code, page["Content-Type"]) == (429, "text/html; charset=utf-8")
    assert "Try again in" in text(page)
    assert int(page["Retry-After"]) > 0
    assert client.get("/api/flows").json()["error"]["code"] == "rate_limited"
    client.force_login(other)
    assert client.get("/").status_code == 200


def test_whoever_has_no_credential_is_limited_by_address(db: None, limited: Callable[..., None]) -> None:
    limited(anonymous="5/day")
    here, elsewhere = new_address(), new_address()
    paths = ["/login/", "/api/flows", "/api/schema/", "/api/no-such-thing", "/"]
    assert [ask(here, path).status_code for path in paths] == [200, 401, 200, 404, 302]
    assert [ask(here, path).status_code for path in paths] == [429] * 5
    assert ask(elsewhere, "/login/").status_code == 200


def test_no_header_makes_another_address_of_one(db: None, limited: Callable[..., None]) -> None:
    limited(anonymous="3/day")
    here = new_address()
    names = ("X-Forwarded-For", "X-Real-IP", "Forwarded", "X-Client-IP", "True-Client-IP", "CF-Connecting-IP")
    answers = [ask(here, **{name: f"192.0.2.{number}"}).status_code for number, name in enumerate(names)]
    assert answers == [401] * 3 + [429] * 3


def test_what_is_no_session_and_what_is_no_route_is_limited_too(
    organization: Organization, limited: Callable[..., None]
) -> None:
    limited(anonymous="2/day")
    here = new_address()
    cookie = {"Cookie": f"{project.SESSION_COOKIE_NAME}={'x' * 32}"}
    assert [ask(here, "/login/", **cookie).status_code for _ in range(3)] == [200, 200, 429]
    here = new_address()
    token = bearer(make_token(organization))
    assert [ask(here, "/api/no-such-thing", **token).status_code for _ in range(3)] == [404, 404, 429]


def test_guessing_tokens_is_limited_and_valid_ones_from_the_same_address_work(
    organization: Organization, limited: Callable[..., None]
) -> None:
    limited(failures="5/day")
    here, token = new_address(), make_token(organization)
    guesses = [f"{uuid4().hex[:8]}.{'x' * 40}" for _ in range(6)] + ["nonsense", ""]
    assert [ask(here, **bearer(guess)).status_code for guess in guesses] == [401] * 5 + [429] * 3
    refused = ask(here, **bearer(guesses[0]))
    assert error_of(refused)["code"] == "rate_limited"
    assert int(refused["Retry-After"]) > 0
    assert ask(here, **bearer(token)).status_code == 200
    assert ask(here, **{"X-API-Key": token}).status_code == 200


def test_after_some_guesses_at_a_token_even_the_right_one_is_not_looked_at(
    organization: Organization, limited: Callable[..., None]
) -> None:
    limited(failures="5/day")
    here, elsewhere, token = new_address(), new_address(), make_token(organization)
    wrong = f"{token[:8]}.{'x' * 40}"
    assert [ask(here, **bearer(wrong)).status_code for _ in range(6)] == [401] * 5 + [429]
    assert ask(here, **bearer(token)).status_code == 429
    assert ask(elsewhere, **bearer(token)).status_code == 200


def test_a_database_that_is_away_costs_nobody_anything(
    organization: Organization, limited: Callable[..., None]
) -> None:
    """Else the fleet of an address would be told to wait for a minute where the database is back in seconds."""
    limited(anonymous="1/day", failures="1/day")
    here, token = new_address(), make_token(organization)
    with connection.execute_wrapper(away_database):
        assert [ask(here, **bearer(token)).status_code for _ in range(3)] == [503] * 3
    assert ask(here, **bearer(token)).status_code == 200


def away_database(*_: object) -> None:
    raise OperationalError("gone")


def test_a_limit_can_be_switched_off(db: None, limited: Callable[..., None]) -> None:
    limited(anonymous=project.NO_LIMIT)
    answer = ask(new_address())
    assert answer.status_code == 401
    assert not any(name in answer for name in HEADERS)


def test_a_valid_token_is_not_taken_for_nobody_where_its_limits_are_off(
    organization: Organization, limited: Callable[..., None]
) -> None:
    off = dict.fromkeys(("token", "organization", "address"), project.NO_LIMIT)
    limited(**off, anonymous="1/day", failures="1/day")
    here, token = new_address(), make_token(organization)
    assert [ask(here, **bearer(token)).status_code for _ in range(3)] == [200] * 3


def test_a_page_says_nothing_of_limits(db: None) -> None:
    assert not any(name in Client().get("/login/") for name in HEADERS)


def test_no_hash_of_a_token_gets_into_valkey(organization: Organization) -> None:
    token = make_token(organization)
    Api(token).get("/api/flows")
    keys = [key.decode() for key in redis.Redis.from_url(project.LIMITS_URL).scan_iter(f"*{token[:8]}*")]
    assert keys
    with connection.cursor() as cursor:
        cursor.execute("SELECT hashed_key FROM accounts_servicetoken WHERE prefix = %s", [token[:8]])
        ((digest,),) = cursor.fetchall()
    assert not any(digest[:20] in key or token[9:20] in key for key in keys)


# --- What an installation says ------------------------------------------------------------------------------------


def rates(**environment: str) -> subprocess.CompletedProcess[str]:
    script = "from django.conf import settings; print(*settings.RATE_LIMITS.values(), sep=',')"
    everything = {"DJANGO_SETTINGS_MODULE": "flowplatform.settings", "PATH": "/usr/bin", **environment}
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=everything, capture_output=True, text=True)


def test_by_default_a_fleet_behind_one_address_is_not_throttled_and_guessing_is() -> None:
    names = tuple(project.RATE_LIMITS)
    defaults = dict(zip(names, map(parse, rates().stdout.strip().split(",")), strict=True))
    per_second = {name: rate.amount / rate.get_expiry() for name, rate in defaults.items()}
    assert all(per_second[name] >= 500 for name in ("token", "organization", "address"))
    assert per_second["failures"] <= 1
    assert per_second["sign_ins"] <= 1


@pytest.mark.parametrize("rate", ["many", "0/minute", "10/fortnight", ""])
def test_a_rate_that_is_none_is_refused_at_the_start(rate: str) -> None:
    result = rates(RATE_LIMIT_TOKEN=rate)
    assert result.returncode != 0
    assert "RATE_LIMIT_TOKEN" in result.stderr + result.stdout or "Not a rate" in result.stderr


# --- Two web processes and a Valkey that goes away -----------------------------------------------------------------

RATES = {
    "RATE_LIMIT_TOKEN": "40/day",
    "RATE_LIMIT_ORGANIZATION": "off",
    "RATE_LIMIT_ADDRESS": "off",
    "RATE_LIMIT_ANONYMOUS": "6/day",
}


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    """One of these tests' own."""
    with TemporaryDirectory(prefix="flowplatform-limits-") as home:
        place = Place.of(Path(home))
        place.prepare(lambda _: None)
        valkey = Valkey(place)
        valkey.start()
        yield valkey
        valkey.stop()
        place.clear()


@contextmanager
def web(valkey: Valkey, *arguments: str) -> Iterator[str]:
    """Run a web server of one process, and return where it is."""
    port = free_port()
    environment = {**Stack(DATA_DIR)._environment, **RATES, "REDIS_URL": f"unix://{valkey.socket}"}
    command = [sys.executable, "-m", "flowplatform.web", "--port", str(port), "--processes", "1", *arguments]
    with (DATA_DIR / "test-limits.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
    try:
        wait_until(lambda: process.poll() is not None or listens(port), seconds=30, what="the server")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(15)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def pair(valkey: Valkey, django_db_setup: None) -> Iterator[list[str]]:
    """Two web servers with one Valkey; the second is told that there is a proxy in front of it."""
    with ExitStack() as stack:
        yield [stack.enter_context(web(valkey, *arguments)) for arguments in ((), ("--behind-proxy",))]


@pytest.fixture
def token(committed: None) -> str:
    return make_token(make_organization(f"limits-{uuid4().hex}"))


class Asker:
    """Asks servers in turn, and remembers how long it took, in seconds."""

    def __init__(self, urls: list[str], **headers: str) -> None:
        self._urls, self._headers = urls, headers
        self._client = httpx.Client(timeout=20)
        self.seconds: list[float] = []
        self.count = 0

    def __call__(self) -> int:
        url = self._urls[self.count % len(self._urls)]
        self.count += 1
        begin = time.perf_counter()
        status = self._client.get(f"{url}/api/flows", headers=self._headers).status_code
        self.seconds.append(time.perf_counter() - begin)
        return status

    def until_refused(self) -> int:
        """Ask until every server has refused several times; return how many requests were not."""
        answers = Counter[int]()
        while answers[429] < 4 * len(self._urls):
            answers[self()] += 1
        assert set(answers) <= {200, 401, 429}
        return answers.total() - answers[429]


def test_two_processes_share_one_allowance(pair: list[str], committed: None) -> None:
    # More than once only if Valkey took so long that they went on by themselves.
    wait_until(lambda: shares_again(pair), what="the shared allowance")


def test_nobody_gets_a_new_allowance_by_claiming_to_come_from_elsewhere(pair: list[str]) -> None:
    plain, proxied = pair
    claims = ("X-Forwarded-For", "X-Real-IP", "Forwarded")
    answers = [
        httpx.get(f"{plain}/api/flows", headers={claims[number % 3]: f"198.51.100.{number}"}).status_code
        for number in range(9)
    ]
    assert answers == [401] * 6 + [429] * 3
    for real in ("203.0.113.5", "203.0.113.6"):
        answers = [
            httpx.get(
                f"{proxied}/api/flows", headers={"X-Real-IP": real, "X-Forwarded-For": f"198.51.100.{number}"}
            ).status_code
            for number in range(7)
        ]
        assert answers == [401] * 6 + [429]


@contextmanager
def away(valkey: Valkey, how: str) -> Iterator[None]:
    """Have Valkey refuse connections, accept and never answer, or refuse what is written."""
    client = valkey.client()
    match how:
        case "stopped":
            valkey.stop()
        case "paused":
            valkey.signal(signal.SIGSTOP)
        case "full":
            client.config_set("maxmemory", "1")
    try:
        yield
    finally:
        match how:
            case "stopped":
                valkey.start()
            case "paused":
                valkey.signal(signal.SIGCONT)
            case "full":
                client.config_set("maxmemory", "0")


@pytest.mark.parametrize("how", ["stopped", "paused", "full"])
def test_a_valkey_that_is_away_slows_nobody_down_and_each_process_goes_on_by_itself(
    how: str, pair: list[str], token: str, valkey: Valkey
) -> None:
    ask = Asker(pair, **bearer(token))
    assert [ask() for _ in range(4)] == [200] * 4
    with away(valkey, how):
        ask.seconds.clear()
        assert 60 <= ask.until_refused() <= 80  # each process its own 40
        assert max(ask.seconds[:6]) < 1.5
        assert statistics.median(ask.seconds[6:]) < 0.3
    wait_until(lambda: shares_again(pair), what="the shared allowance")


def shares_again(pair: list[str]) -> bool:
    with transaction.atomic():
        organization = make_organization(f"limits-{uuid4().hex}")
    return Asker(pair, **bearer(make_token(organization))).until_refused() == 40


# --- Sockets ------------------------------------------------------------------------------------------------------

WAITING, PER_ADDRESS, PER_PROCESS = 4, 5, 8
PATIENCE = 3  # seconds; a busy machine takes its time for a handshake


@pytest.fixture(scope="module")
def live(django_db_setup: None) -> Iterator[Stack]:
    """A live process behind a proxy, with few places and little patience."""
    environment = {
        "SOCKETS_WAITING": str(WAITING),
        "SOCKETS_PER_ADDRESS": str(PER_ADDRESS),
        "SOCKETS_PER_PROCESS": str(PER_PROCESS),
        "RATE_LIMIT_FAILURES": "3/day",
        "RATE_LIMIT_ANONYMOUS": "3/day",
        "RATE_LIMIT_SOCKETS": "6/day",
    }
    stack = Stack(DATA_DIR, environment)
    stack._commands["live"] += ["--behind-proxy", "--websocket_connect_timeout", str(PATIENCE)]
    stack.start("live")
    yield stack
    stack.stop()


@pytest.fixture
def execution(committed: None) -> FlowExecution:
    return make_execution(make_flow(make_organization(f"limits-{uuid4().hex}")))


class Crowd:
    """Sockets that stay open, and the close codes of those that do not."""

    def __init__(self, stack: AsyncExitStack, live: Stack, execution: FlowExecution) -> None:
        self._stack, self._live, self._execution = stack, live, execution
        self._tokens = [make_token(execution.organization) for _ in range(PER_PROCESS + 1)]

    async def join(self, address: str, token: str = "") -> None:
        token = token or self.new_token()
        opening = watching(self._live, self._execution.flow_id, token, **{"X-Real-IP": address})
        assert (await frame_from(await self._stack.enter_async_context(opening)))["type"] == "hello"

    def new_token(self) -> str:
        return self._tokens.pop()

    async def refusal(self, address: str, token: str | None = None, **headers: str) -> int | None:
        headers["X-Real-IP"] = address
        return await close_code_of(self._live, self._execution.flow_id, token, **headers)  # type: ignore[arg-type]


def with_crowd(live: Stack, execution: FlowExecution, story: Callable[[Crowd], object]) -> None:
    stack = AsyncExitStack()
    crowd = Crowd(stack, live, execution)

    async def run() -> None:
        async with stack:
            await story(crowd)  # type: ignore[misc]

    asyncio.run(run())


def test_an_address_has_so_many_sockets_whoever_opens_them(live: Stack, execution: FlowExecution) -> None:
    async def story(crowd: Crowd) -> None:
        here, elsewhere = new_address(), new_address()
        for _ in range(PER_ADDRESS):
            await crowd.join(here)
        assert await crowd.refusal(here, crowd.new_token(), **{"X-Forwarded-For": elsewhere}) == 4429
        await crowd.join(elsewhere)

    with_crowd(live, execution, story)


def test_a_process_has_so_many_sockets_wherever_they_come_from(live: Stack, execution: FlowExecution) -> None:
    async def story(crowd: Crowd) -> None:
        for _ in range(PER_PROCESS):
            await crowd.join(new_address())
        assert await crowd.refusal(new_address(), crowd.new_token()) == 4429

    with_crowd(live, execution, story)


def test_sockets_that_are_not_yet_anybodys_have_few_places_and_give_them_back(
    live: Stack, execution: FlowExecution
) -> None:
    token = make_token(execution.organization)

    async def story(crowd: Crowd) -> None:
        def hold() -> None:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute("LOCK TABLE accounts_servicetoken IN ACCESS EXCLUSIVE MODE")
                held.set()
                done.wait(10)
            connection.close()

        held, done = threading.Event(), threading.Event()
        holding = asyncio.create_task(asyncio.to_thread(hold))
        await asyncio.to_thread(held.wait, 10)
        joining = [asyncio.create_task(crowd.join(new_address(), token)) for _ in range(WAITING)]
        await asyncio.sleep(0.5)
        assert await crowd.refusal(new_address(), token) == 4429
        done.set()
        await asyncio.gather(holding, *joining)
        await crowd.join(new_address(), token)

    with_crowd(live, execution, story)


def test_wrong_tokens_and_none_are_limited_by_address_and_valid_ones_from_there_work(
    live: Stack, execution: FlowExecution
) -> None:
    token = make_token(execution.organization)

    async def story(crowd: Crowd) -> None:
        here = new_address()
        guesses = [f"{uuid4().hex[:8]}.{'x' * 40}" for _ in range(4)]
        assert [await crowd.refusal(here, guess) for guess in guesses] == [4401] * 3 + [4429]
        assert [await crowd.refusal(here) for _ in range(4)] == [4401] * 3 + [4429]
        await crowd.join(here, token)

    with_crowd(live, execution, story)


def test_a_token_that_may_not_read_is_no_guess(live: Stack, execution: FlowExecution) -> None:
    blind = make_token(execution.organization, ["status:write"])

    async def story(crowd: Crowd) -> None:
        here = new_address()
        assert [await crowd.refusal(here, blind) for _ in range(4)] == [4401] * 3 + [4429]
        path = f"{live.url}/api/flow-executions/{execution.pk}/task-status"
        headers = {**bearer(blind), "X-Real-IP": here}
        answer = await asyncio.to_thread(httpx.post, path, json=statuses(("extract", "x")), headers=headers)
        assert answer.status_code == 200

    with_crowd(live, execution, story)


def test_an_actor_opens_so_many_sockets_in_a_while(live: Stack, execution: FlowExecution) -> None:
    token = make_token(execution.organization)

    async def story() -> None:
        for _ in range(6):
            async with watching(live, execution.flow_id, token, **{"X-Real-IP": new_address()}) as socket:
                assert (await frame_from(socket))["type"] == "hello"
        headers = {"X-Real-IP": new_address()}
        assert await close_code_of(live, execution.flow_id, token, **headers) == 4429  # type: ignore[arg-type]

    asyncio.run(story())


def test_connections_that_say_nothing_make_room_and_are_cut_soon_and_others_are_kept(live: Stack) -> None:
    with ExitStack() as stack:
        kept = stack.enter_context(httpx.Client(headers={"X-Real-IP": new_address()}))
        assert kept.get(f"{live.url}/api/flows").status_code == 401
        silent = [
            stack.enter_context(socket.create_connection(("127.0.0.1", live.port), 10)) for _ in range(WAITING + 2)
        ]
        halfway = stack.enter_context(socket.create_connection(("127.0.0.1", live.port), 10))
        halfway.sendall(b"GET /api/fl")
        assert is_cut(silent[0])
        assert httpx.get(f"{live.url}/api/flows", headers={"X-Real-IP": new_address()}).status_code == 401
        assert is_cut(silent[-1])
        assert is_cut(halfway)
        before = list(kept._transport._pool.connections)  # type: ignore[attr-defined]
        assert kept.get(f"{live.url}/api/flows").status_code == 401
        assert kept._transport._pool.connections == before  # type: ignore[attr-defined]


def is_cut(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True
