"""The platform as it is deployed, as plain processes: two web, two live, two workers and beat, behind a real nginx.

Under them a PostgreSQL and a Valkey of the suite's own, each behind the proxy, so that all of them can be hurt alone.
Without nginx clients share the web and live processes among themselves.
"""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx

from flowplatform.embedded.locations import APPLICATION, DATABASE, OWNER
from flowplatform.embedded.place import Place
from tests.faults.nginx import PROGRAM as NGINX
from tests.faults.nginx import Nginx
from tests.faults.proxy import Proxy
from tests.faults.servers import Postgres, Valkey
from tests.stack import ROOT, free_port, wait_until

HOST = "127.0.0.1"
WEB, LIVE, WORKERS = ("web-1", "web-2"), ("live-1", "live-2"), ("worker-1", "worker-2")
ORGANIZATION = "faults"

_DATABASE, _BROKER = "database", "broker"  # the routes of the proxy
_CELERY = ("celery", "-A", "flowplatform.celery")


class Processes:
    """The platform's own processes, by name."""

    def __init__(self, home: Path, environment: Mapping[str, str]) -> None:
        self.ports = {name: free_port() for name in (*WEB, *LIVE)}
        self._home = home
        self._environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str, wait: bool = True) -> None:
        """Start processes; return when those that serve do so."""
        for name in names:
            with self.log(name).open("ab") as log:
                self._running[name] = subprocess.Popen(
                    [sys.executable, "-m", *self._command(name)],
                    cwd=ROOT,
                    env=self._environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        for name in names if wait else ():
            self.wait_for(name)

    def wait_for(self, name: str) -> None:
        """Return when a process serves; at once if it serves nobody."""
        if name in self.ports:
            wait_until(lambda: self._answers(name), seconds=60, what=f"the first answer of {name}")

    def restore(self) -> None:
        """Have every process running that was started once, and serving."""
        self.start(*(name for name, process in self._running.items() if process.poll() is not None), wait=False)
        for name in self._running:
            self.wait_for(name)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Send a signal to a process alone."""
        self._running[name].send_signal(number)

    def kill(self, name: str) -> None:
        """End a process and its children without a word, as a container is killed."""
        process = self._running[name]
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def terminate(self, name: str, seconds: float = 15) -> None:
        """Ask a process to end and wait until it has."""
        process = self._running[name]
        process.terminate()
        process.wait(seconds)

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def stop(self) -> None:
        for process in self._running.values():
            process.terminate()
        for name, process in self._running.items():
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
            self.kill(name)

    def log(self, name: str) -> Path:
        return self._home / f"{name}.log"

    def _command(self, name: str) -> Sequence[str]:
        kind = name.partition("-")[0]
        if kind == "web":
            return ["flowplatform.web", "--port", str(self.ports[name]), "--processes", "1", "--behind-proxy"]
        if kind == "live":
            return ["flowplatform.live", "--port", str(self.ports[name])]
        if kind == "worker":
            quiet = ["--without-gossip", "--without-mingle", "--hostname", f"{name}@%h"]
            return [*_CELERY, "worker", "--pool", "threads", "--concurrency", "2", *quiet]
        return [*_CELERY, "beat", "--schedule", str(self._home / "beat-schedule")]

    def _answers(self, name: str) -> bool:
        assert self._running[name].poll() is None, self.log(name).read_text()[-3000:]
        try:
            return httpx.get(f"http://{HOST}:{self.ports[name]}/api/flows", timeout=5).status_code == 401
        except httpx.TransportError:
            return False


class Stage:
    """Everything, running."""

    def __init__(self, home: Path, postgres: Postgres, valkey: Valkey, proxy: Proxy, processes: Processes) -> None:
        self.home = home
        self.postgres = postgres
        self.valkey = valkey
        self.processes = processes
        self.token = ""
        self._tokens: list[str] = []
        self._proxy = proxy
        self._nginx_port: int | None = None

    def database(self, mode: str, *, seconds: float = 0.0) -> None:
        """Have what stands before PostgreSQL behave differently (`proxy.py`)."""
        self._proxy.turn(_DATABASE, mode, seconds=seconds)  # type: ignore[arg-type]

    def broker(self, mode: str, *, seconds: float = 0.0) -> None:
        """Have what stands before Valkey behave differently."""
        self._proxy.turn(_BROKER, mode, seconds=seconds)  # type: ignore[arg-type]

    @property
    def has_nginx(self) -> bool:
        return self._nginx_port is not None

    @property
    def http_ports(self) -> Sequence[int]:
        """Where clients find the API: at nginx, or at each of the web processes."""
        return [self._nginx_port] if self._nginx_port else [self.processes.ports[name] for name in WEB]

    @property
    def sockets_ports(self) -> Sequence[int]:
        """Where clients find the sockets."""
        return [self._nginx_port] if self._nginx_port else [self.processes.ports[name] for name in LIVE]

    def manage(self, *arguments: str) -> str:
        """Run a management command and return what it printed."""
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.processes._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def make_token(self, name: str) -> str:
        return self.manage("create_service_token", "--organization", ORGANIZATION, "--name", name)

    def tokens(self, number: int) -> Sequence[str]:
        """Return tokens of so many service accounts; they are made once."""
        while len(self._tokens) < number:
            self._tokens.append(self.make_token(f"crowd-{len(self._tokens)}"))
        return self._tokens[:number]

    def restore(self) -> None:
        """Undo whatever a fault has done: everything runs and answers."""
        self.broker("pass")
        self.database("pass")
        self.postgres.start()
        self.processes.restore()

    def last_words(self) -> Iterator[tuple[str, str]]:
        """Yield the end of each log, for a failure."""
        for path in sorted(self.home.glob("*.log")):
            yield path.name, path.read_text()[-2000:]


@contextmanager
def stage() -> Iterator[Stage]:
    """Have the whole topology for the duration of a with statement, and nothing of it afterwards."""
    with ExitStack() as ending:
        home = Path(ending.enter_context(TemporaryDirectory(prefix="flowplatform-faults-"))).resolve()
        postgres, valkey = _servers(home, ending)
        ports = {_DATABASE: free_port(), _BROKER: free_port()}
        upstreams = {_DATABASE: str(postgres.socket), _BROKER: str(valkey.socket)}
        proxy = Proxy({name: (port, upstreams[name]) for name, port in ports.items()})
        ending.callback(proxy.stop)
        processes = Processes(home, _environment(home, ports))
        ending.callback(processes.stop)
        running = Stage(home, postgres, valkey, proxy, processes)
        running.manage("migrate", "--verbosity", "0")
        running.token = running.make_token("faults")
        processes.start(*WEB, *LIVE, *WORKERS, "beat", wait=False)
        for name in (*WEB, *LIVE):
            processes.wait_for(name)
        if NGINX:
            _start_nginx(running, ending)
        yield running


def _servers(home: Path, ending: ExitStack) -> tuple[Postgres, Valkey]:
    place = Place.of(home)
    ending.callback(place.clear)
    place.prepare(lambda _: None)
    (home / "logs").mkdir(exist_ok=True)
    postgres = Postgres(place, ending.enter_context(Postgres.open_alive(place)))
    ending.callback(postgres.stop)
    postgres.start()
    valkey = Valkey(place)
    ending.callback(valkey.stop)
    valkey.start()
    return postgres, valkey


def _start_nginx(running: Stage, ending: ExitStack) -> None:
    port, ports = free_port(), running.processes.ports
    web, live = ([ports[name] for name in names] for names in (WEB, LIVE))
    nginx = Nginx(running.home / "nginx", port, web, live)
    ending.callback(nginx.stop)
    url = f"http://{HOST}:{port}/api/flows"

    def answers() -> bool:
        nginx.check()
        with suppress(httpx.TransportError):
            return httpx.get(url).status_code == 401
        return False

    wait_until(answers, what="nginx's first answer")
    running._nginx_port = port


def _environment(home: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """Return the environment of a production installation whose servers are behind the proxy."""
    ours = ("FLOWPLATFORM_", "DATABASE_URL", "OWNER_DATABASE_URL", "REDIS_URL")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **inherited,
        "DJANGO_SETTINGS_MODULE": "flowplatform.settings",
        "FLOWPLATFORM_DATA_DIR": str(home),
        "DATABASE_URL": f"postgresql://{APPLICATION}@{HOST}:{ports[_DATABASE]}/{DATABASE}",
        "OWNER_DATABASE_URL": f"postgresql://{OWNER}@{HOST}:{ports[_DATABASE]}/{DATABASE}",
        "REDIS_URL": f"redis://{HOST}:{ports[_BROKER]}",
        "SECRET_KEY": secrets.token_urlsafe(50),
        "ALLOWED_HOSTS": HOST,
        "PYTHONUNBUFFERED": "1",
    }
