"""`manage.py up` and the other commands beside it, as a person runs them: real processes, directories of their own."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import mkdtemp

import httpx
import pytest
from django.core.management import CommandError, call_command
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from flowplatform.accounts.models import Organization, ServiceToken, User
from flowplatform.demo.credentials import ensure_demo
from flowplatform.embedded import database_url, owner_database_url, redis_url
from tests.leftovers import processes_of
from tests.servers import DATA_DIR
from tests.stack import ROOT, free_port, free_port_pair, wait_until

# What somebody with a database of their own has to set beside it.
INSTALLATION = {"SECRET_KEY": secrets.token_hex(32), "ALLOWED_HOSTS": "127.0.0.1"}
# This run's own servers and settings are not those of a newcomer.
NEWCOMER = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith("FLOWPLATFORM_") and name not in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")
}


class Up:
    """A running `manage.py up`."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.data_dir = data_dir
        self.port = free_port_pair()
        self.url = f"http://127.0.0.1:{self.port}"
        self.output = data_dir.parent / "up.out"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--port", str(self.port), "--data-dir", data_dir, *arguments],
                cwd=ROOT,
                env=NEWCOMER,
                stdout=output,
                stderr=output,
            )
        wait_until(lambda: "curl" in self.said() or self.process.poll() is not None, seconds=40, what="the start")
        assert self.process.poll() is None, self.said()

    def said(self) -> str:
        return self.output.read_text()

    def token(self) -> str:
        found = re.search(r"Service token +(\S+)", self.said())
        assert found
        return found[1]

    def pids_of(self, program: str) -> list[int]:
        """Return its process ids: first the one that we have started, which leads a session, then its own children."""
        found = [int(line.split()[0]) for line in processes_of(self.data_dir) if program in line]
        return sorted(found, key=lambda pid: pid != os.getsid(pid))

    @contextmanager
    def signed_in(self) -> Iterator[httpx.Client]:
        login = re.search(r"Sign in as +(\S+) +password (\S+)", self.said())
        assert login
        with httpx.Client(base_url=self.url, follow_redirects=True) as browser:
            browser.get("/login/")
            form = {"username": login[1], "password": login[2], "csrfmiddlewaretoken": browser.cookies["csrftoken"]}
            assert browser.post("/login/", data=form).status_code == 200
            yield browser

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def manage(*arguments: str | Path, environment: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command as a newcomer does, whose environment may say more."""
    command = [sys.executable, "manage.py", *arguments]
    everything = {**NEWCOMER, **(environment or {})}
    return subprocess.run(command, cwd=ROOT, env=everything, capture_output=True, text=True, timeout=60)


def make_data_dir() -> Iterator[Path]:
    data_dir = Path(mkdtemp(prefix="fp-", dir="/tmp")) / "data"
    yield data_dir
    left = processes_of(data_dir)
    for line in left:
        os.kill(int(line.split()[0]), signal.SIGKILL)
    assert left == []
    subprocess.run(["rm", "-rf", data_dir.parent], check=True)


data_dir = pytest.fixture(make_data_dir)
shared_data_dir = pytest.fixture(make_data_dir, scope="module")


@pytest.fixture(scope="module")
def up(shared_data_dir: Path) -> Iterator[Up]:
    up = Up(shared_data_dir)
    yield up
    assert up.end(signal.SIGINT) == 0
    assert "Stopping…" in up.said()


def is_valid(url: str, token: str) -> bool:
    return httpx.get(f"{url}/api/flows", headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_up_prints_an_address_a_login_and_a_token_that_work(up: Up) -> None:
    assert up.url in up.said()
    assert is_valid(up.url, up.token())
    with up.signed_in() as browser:
        assert browser.get("/").url.path == "/"


def test_the_curl_line_works_when_pasted(up: Up) -> None:
    line = next(line for line in up.said().splitlines() if line.startswith("curl"))
    answer = subprocess.run(["bash", "-c", f"{line} --silent --fail"], capture_output=True, check=True).stdout
    assert answer.startswith(b"[")


def test_the_demo_worker_is_given_its_token_but_not_in_its_command(up: Up) -> None:
    demo = next(line for line in processes_of(up.data_dir) if "flowplatform.demo" in line)
    assert not any(up.token() in line for line in processes_of(up.data_dir))
    environment = Path(f"/proc/{demo.split()[0]}/environ").read_bytes()
    assert f"FLOWPLATFORM_TOKEN={up.token()}".encode() in environment


def listening_ports(up: Up) -> set[int]:
    inodes = {
        fields[9]: int(fields[1].split(":")[1], 16)
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in map(str.split, Path(table).read_text().splitlines()[1:])
        if fields[3] == "0A"  # LISTEN
    }
    listening = set()
    for line in processes_of(up.data_dir):
        for descriptor in Path(f"/proc/{line.split()[0]}/fd").iterdir():
            with suppress(FileNotFoundError):  # closed since
                match = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
                if match and match[1] in inodes:
                    listening.add(inodes[match[1]])
    return listening


def test_nothing_listens_on_tcp_but_the_address_itself(up: Up) -> None:
    assert listening_ports(up) == {up.port}


def test_a_token_can_be_made_beside_a_running_up(up: Up) -> None:
    made = manage("create_service_token", "--organization", "ours", "--name", "beside", "--data-dir", up.data_dir)
    assert made.returncode == 0
    assert re.fullmatch(r"\S+\n", made.stdout)
    assert made.stderr == ""
    assert is_valid(up.url, made.stdout.strip())


def test_a_second_up_on_the_data_directory_is_told_where_the_first_is(up: Up) -> None:
    second = manage("up", "--port", str(free_port()), "--data-dir", up.data_dir)
    assert second.returncode == 1
    assert second.stderr == (
        f"CommandError: Flow Platform already runs on {up.data_dir} at {up.url}:"
        " stop it first, or choose another --data-dir.\n"
    )
    assert is_valid(up.url, up.token())


def test_a_port_in_use_is_one_sentence(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        second = manage("up", "--port", str(port), "--data-dir", data_dir)
    assert second.returncode == 1
    assert second.stderr == (
        f"CommandError: Port {port} of 127.0.0.1 cannot be used (Address already in use): choose another with --port.\n"
    )
    assert second.stdout == ""


@pytest.fixture(scope="module")
def scaled() -> Iterator[Up]:
    for data_dir in make_data_dir():
        scaled = Up(data_dir, "--no-demo", "--web-processes", "2")
        yield scaled
        assert scaled.end(signal.SIGINT) == 0
        assert processes_of(data_dir) == []


def watching(scaled: Up, flow_id: str, **headers: str) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{scaled.port + 1}/ws/flows/{flow_id}", additional_headers=headers, proxy=None)


def test_with_web_processes_the_production_server_has_the_port_and_live_the_next(scaled: Up) -> None:
    assert httpx.get(f"{scaled.url}/api/flows").headers["Server"] == "granian"
    assert len(scaled.pids_of("flowplatform.web")) == 1 + 2  # one watches the others
    assert listening_ports(scaled) == {scaled.port, scaled.port + 1}
    assert f"ws://127.0.0.1:{scaled.port + 1}/ws/" in scaled.said()
    announced = json.loads((scaled.data_dir / "up.json").read_bytes())
    assert (announced["url"], announced["sockets_url"]) == (scaled.url, f"ws://127.0.0.1:{scaled.port + 1}")


def test_a_chunked_body_is_read_and_one_over_the_limit_is_413(scaled: Up) -> None:
    headers = {"Authorization": f"Bearer {scaled.token()}", "Content-Type": "application/json"}
    parts = [b'{"display_name": "In parts", ', b'"definition": {"tasks": [{"name": "only"}]}}']
    with httpx.Client(base_url=scaled.url, headers=headers) as api:
        assert api.post("/api/flows", content=iter(parts)).status_code == 201
        for content in (iter([b"[" * 2**16] * 17), b"[" * 17 * 2**16):
            refused = api.post("/api/flows", content=content)
            assert (refused.status_code, refused.json()["error"]["code"]) == (413, "payload_too_large")


def test_a_page_knows_where_the_sockets_are_and_only_our_pages_get_there_with_the_cookie(scaled: Up) -> None:
    api = httpx.Client(base_url=scaled.url, headers={"Authorization": f"Bearer {scaled.token()}"})
    flow = api.post("/api/flows", json={"display_name": "Watched", "definition": {"tasks": [{"name": "only"}]}}).json()
    execution = api.post("/api/flow-executions", json={"flow_id": flow["id"], "input": {}}).json()
    with scaled.signed_in() as browser:
        assert f'data-sockets-port="{scaled.port + 1}"' in browser.get(f"/flows/{flow['id']}/").text
        cookie = f"flowplatform_session={browser.cookies['flowplatform_session']}"

    for foreign in ("http://evil.example", f"http://127.0.0.1:{scaled.port + 2}", f"http://evil.example:{scaled.port}"):
        with watching(scaled, flow["id"], Cookie=cookie, Origin=foreign) as socket, pytest.raises(ConnectionClosed):
            socket.recv(5)
        assert socket.close_code == 4401

    for host in ("127.0.0.1", "localhost"):
        with watching(scaled, flow["id"], Cookie=cookie, Origin=f"http://{host}:{scaled.port}") as socket:
            assert json.loads(socket.recv(5))["type"] == "hello"
            body = {"statuses": [{"task_name": "only", "status": "running"}]}
            assert api.post(f"/api/flow-executions/{execution['id']}/task-status", json=body).status_code == 200
            events = (event["type"] for frame in socket for event in json.loads(frame).get("events", []))
            assert "task_status.added" in events
    api.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--port", "0"), "A port is a number from 1 to 65535."),
        (("--web-processes", "0"), "--web-processes must be at least 1."),
        (
            ("--web-processes", "1", "--port", "65535"),
            "With --web-processes the sockets are on the port after --port: choose one below 65535.",
        ),
    ],
)
def test_numbers_that_cannot_be_are_one_sentence(arguments: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(CommandError, match=f"^{re.escape(sentence)}$"):
        call_command("up", *arguments)


def test_more_web_processes_than_the_database_has_connections_for_are_one_sentence(data_dir: Path) -> None:
    ours = {**INSTALLATION, "OWNER_DATABASE_URL": owner_database_url(DATA_DIR), "REDIS_URL": redis_url(DATA_DIR)}
    ours["DATABASE_URL"] = database_url(DATA_DIR)
    failed = manage(
        "up", "--port", str(free_port_pair()), "--web-processes", "100", "--data-dir", data_dir, environment=ours
    )
    assert failed.returncode == 1
    assert re.fullmatch(
        r"CommandError: With --web-processes 100 the platform may need 222 database connections, and PostgreSQL"
        r" allows 197: choose fewer processes, or raise max_connections\.\n",
        failed.stderr,
    )


def test_a_port_in_use_for_the_sockets_is_one_sentence(data_dir: Path) -> None:
    port = free_port_pair() + 1
    with socket.create_server(("127.0.0.1", port)):
        second = manage("up", "--port", str(port - 1), "--data-dir", data_dir, "--web-processes", "1")
    assert second.returncode == 1
    assert second.stderr == (
        f"CommandError: Port {port} of 127.0.0.1, which is for the sockets, cannot be used (Address already in use):"
        " choose another with --port.\n"
    )


def test_a_data_directory_that_cannot_be_written_is_one_sentence(data_dir: Path) -> None:
    data_dir.write_text("a file")
    for command in ("up", "migrate"):
        failed = manage(command, "--data-dir", data_dir / "below")
        assert failed.returncode == 1
        assert failed.stderr == f"The data directory {data_dir}/below cannot be created: Not a directory.\n"
        assert failed.stdout == ""


def test_a_database_that_is_not_there_is_one_sentence(data_dir: Path) -> None:
    nobodys = {**INSTALLATION, "DATABASE_URL": f"postgresql://nobody@/nothing?host={data_dir}"}
    failed = manage("up", "--port", str(free_port()), "--data-dir", data_dir, environment=nobodys)
    assert failed.returncode == 1
    assert re.fullmatch(r"CommandError: The database cannot be used: .+\n", failed.stderr)


def test_unsafe_settings_beside_a_database_of_ones_own_are_refused_before_anything_starts(data_dir: Path) -> None:
    unsafe = {**INSTALLATION, "DATABASE_URL": "postgresql://nobody@/nothing", "ALLOWED_HOSTS": "*"}
    failed = manage("up", "--port", str(free_port()), "--data-dir", data_dir, environment=unsafe)
    assert failed.returncode == 1
    assert re.fullmatch(r"flowplatform: ALLOWED_HOSTS .+\[flowplatform\.E003\]\n", failed.stderr)
    assert not data_dir.exists()


def test_commands_work_without_up_and_leave_nothing_running(data_dir: Path) -> None:
    assert manage("migrate", "--verbosity", "0", "--data-dir", data_dir).returncode == 0
    made = manage("create_service_token", "--organization", "ours", "--name", "alone", "--data-dir", data_dir)
    assert re.fullmatch(r"\S+\n", made.stdout)
    assert processes_of(data_dir) == []


@pytest.mark.slow
def test_after_a_kill_the_next_up_has_the_same_data_and_a_crashed_process_ends_it_all(data_dir: Path) -> None:
    first = Up(data_dir, "--no-demo")
    token = first.token()
    made = httpx.post(
        f"{first.url}/api/flows",
        headers={"Authorization": f"Bearer {token}"},
        json={"display_name": "Kept", "definition": {"tasks": [{"name": "only"}]}},
    )
    assert made.status_code == 201
    first.end(signal.SIGKILL)
    wait_until(lambda: not any("flowplatform" in line for line in processes_of(data_dir)), what="the children's end")

    second = Up(data_dir, "--no-demo", "--web-processes", "1")
    assert second.token() == token
    path = f"{second.url}/api/flows/{made.json()['id']}"
    assert httpx.get(path, headers={"Authorization": f"Bearer {token}"}).json()["display_name"] == "Kept"

    # An idle connection, as browsers open them in advance, keeps a web process that has lost its parent for seconds.
    with socket.create_connection(("127.0.0.1", second.port)):
        os.kill(second.pids_of("flowplatform.web")[0], signal.SIGKILL)
        assert second.process.wait(20) == 1
    sentence = r"^CommandError: The web process was ended by SIGKILL: .* \(/.*/web\.log\)\.$"
    assert re.search(sentence, second.said(), re.MULTILINE)
    assert processes_of(data_dir) == []
    assert not (data_dir / "up.json").exists()


@pytest.mark.django_db
def test_the_demo_credentials_stay_the_same_until_they_no_longer_work(tmp_path: Path) -> None:
    first = ensure_demo(tmp_path)
    assert first.password
    assert (tmp_path / "demo.json").stat().st_mode & 0o777 == 0o600
    assert ensure_demo(tmp_path) == first

    ServiceToken.objects.get(prefix=first.token[:8]).revoke()
    second = ensure_demo(tmp_path)
    assert (second.token != first.token, second.password) == (True, first.password)

    (tmp_path / "demo.json").write_text("lost {")
    third = ensure_demo(tmp_path)
    assert third.token != second.token
    assert User.objects.get(username="admin").check_password(third.password or "")

    User.objects.all().delete()  # as in a database made anew
    Organization.objects.all().delete()
    fourth = ensure_demo(tmp_path)
    assert (fourth.password, fourth.organization) == (third.password, "demo")
    assert fourth.token != third.token


@pytest.mark.django_db
def test_a_demo_password_that_a_person_has_changed_is_left_alone(tmp_path: Path) -> None:
    ensure_demo(tmp_path)
    admin = User.objects.get(username="admin")
    admin.set_password("of my own choice")
    admin.save()
    for _ in range(2):
        assert ensure_demo(tmp_path).password is None
    admin.refresh_from_db()
    assert admin.check_password("of my own choice")
