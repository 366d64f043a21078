"""`manage.py up` and the other commands beside it, as a person runs them: real processes, directories of their own."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import httpx
import pytest

from flowplatform.accounts.models import Organization, ServiceToken, User
from flowplatform.demo.credentials import ensure_demo
from tests.leftovers import processes_of
from tests.stack import ROOT, free_port, wait_until

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
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self.output = data_dir.parent / "up.out"
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "up", "--port", str(port), "--data-dir", data_dir, *arguments],
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

    def pid_of(self, program: str) -> int:
        return next(int(line.split()[0]) for line in processes_of(self.data_dir) if program in line)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


def manage(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command as a newcomer does."""
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=NEWCOMER, capture_output=True, text=True, timeout=60)


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
    login = re.search(r"Sign in as +(\S+) +password (\S+)", up.said())
    assert login
    with httpx.Client(base_url=up.url, follow_redirects=True) as browser:
        form = {"username": login[1], "password": login[2], "csrfmiddlewaretoken": ""}
        browser.get("/login/")
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        assert browser.post("/login/", data=form).status_code == 200
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


def test_nothing_listens_on_tcp_but_the_address_itself(up: Up) -> None:
    inodes = {
        fields[9]: int(fields[1].split(":")[1], 16)
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for fields in map(str.split, Path(table).read_text().splitlines()[1:])
        if fields[3] == "0A"  # LISTEN
    }
    listening = set()
    for line in processes_of(up.data_dir):
        for descriptor in Path(f"/proc/{line.split()[0]}/fd").iterdir():
            match = re.fullmatch(r"socket:\[(\d+)\]", str(descriptor.readlink()))
            if match and match[1] in inodes:
                listening.add(inodes[match[1]])
    assert listening == {int(up.url.rpartition(":")[2])}


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


def test_a_data_directory_that_cannot_be_written_is_one_sentence(data_dir: Path) -> None:
    data_dir.write_text("a file")
    for command in ("up", "migrate"):
        failed = manage(command, "--data-dir", data_dir / "below")
        assert failed.returncode == 1
        assert failed.stderr == f"The data directory {data_dir}/below cannot be created: Not a directory.\n"
        assert failed.stdout == ""


def test_a_database_that_is_not_there_is_one_sentence(data_dir: Path) -> None:
    failed = subprocess.run(
        [sys.executable, "manage.py", "up", "--port", str(free_port()), "--data-dir", data_dir],
        cwd=ROOT,
        env={**NEWCOMER, "DATABASE_URL": f"postgresql://nobody@/nothing?host={data_dir}", "SECRET_KEY": "x" * 50},
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1
    assert re.fullmatch(r"CommandError: The database cannot be used: .+\n", failed.stderr)


def test_commands_work_without_up_and_leave_nothing_running(data_dir: Path) -> None:
    assert manage("migrate", "--verbosity", "0", "--data-dir", data_dir).returncode == 0
    made = manage("create_service_token", "--organization", "ours", "--name", "alone", "--data-dir", data_dir)
    assert re.fullmatch(r"\S+\n", made.stdout)
    assert processes_of(data_dir) == []


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

    second = Up(data_dir, "--no-demo")
    assert second.token() == token
    path = f"{second.url}/api/flows/{made.json()['id']}"
    assert httpx.get(path, headers={"Authorization": f"Bearer {token}"}).json()["display_name"] == "Kept"

    os.kill(second.pid_of("celery -A flowplatform.celery worker"), signal.SIGKILL)
    assert second.process.wait(20) == 1
    sentence = r"^CommandError: The worker process was ended by SIGKILL: .* \(/.*/worker\.log\)\.$"
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
