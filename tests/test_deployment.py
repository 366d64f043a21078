"""The Dockerfile and docker-compose.yml: no engine runs here, so what they say is held against what there is."""

import contextlib
import fnmatch
import http.client
import os
import re
import secrets
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.apps import apps
from django.conf import settings
from django.core.management import load_command_class

from deploy import certificate
from flowplatform import web
from flowplatform.embedded.locations import APPLICATION, OWNER
from flowplatform.live import Live
from tests.conftest import Platform
from tests.servers import DATA_DIR
from tests.stack import free_port, wait_until

ROOT = Path(__file__).resolve().parent.parent
COMPOSE_FILE = ROOT / "docker-compose.yml"
COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"] == "flowplatform")
NGINX_CONF = (ROOT / "deploy" / "nginx.conf").read_text()

STAND_IN = secrets.token_hex(32)  # for every secret

Instruction = tuple[str, str]


# --- Reading the files ----------------------------------------------------------------------------------------------


def dockerfile_stages() -> list[list[Instruction]]:
    """Return the instructions of each stage as (keyword, rest), with continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    instructions = [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line.strip()]
    stages: list[list[Instruction]] = []
    for keyword, rest in instructions:
        if keyword == "FROM":
            stages.append([])
        if stages:
            stages[-1].append((keyword, rest))
    return stages


BUILD_STAGE, FINAL_STAGE = dockerfile_stages()


def last(keyword: str, stage: list[Instruction]) -> str:
    return [rest for name, rest in stage if name == keyword][-1]


def is_in_build_context(path: str) -> bool:
    """Say whether .dockerignore lets a path through: the last pattern that matches it, or a folder above, decides."""
    included = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!")
        parts = Path(path).parts
        parents = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        names = parts if pattern.startswith("**/") else parents[:1]
        if any(fnmatch.fnmatchcase(name, pattern.removeprefix("**/")) for name in names):
            included = line.startswith("!")
    return included


def interpolated(value: str) -> str:
    """Fill in `${NAME}`, `${NAME:-default}` and `${NAME:?message}` as compose does: required ones get a stand-in."""
    value = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", value)
    return re.sub(r"\$\{\w+(:\?[^}]*)?\}", STAND_IN, value).replace("$$", "$")


def environment_of(service: str) -> dict[str, str]:
    """Return our environment with that of the service, as its container would have it."""
    given = {name: interpolated(str(value)) for name, value in SERVICES[service]["environment"].items()}
    inherited = {name: value for name, value in os.environ.items() if name not in given and name != "FLOWPLATFORM_ROLE"}
    return {**inherited, **given, "FLOWPLATFORM_DATA_DIR": "/nonexistent"}


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command of a container; programs are those of this virtual environment."""
    program, *arguments = command
    found = [sys.executable] if program == "python" else [sys.executable, "-m", program]
    return subprocess.run(
        [*found, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


# --- docker-compose.yml ---------------------------------------------------------------------------------------------


def check_schema(path: Path) -> subprocess.CompletedProcess[str]:
    return run(["check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(path)], dict(os.environ))


def test_the_compose_file_is_valid_by_the_schema_of_the_compose_specification() -> None:
    result = check_schema(COMPOSE_FILE)
    assert result.returncode == 0, result.stdout + result.stderr


def test_that_schema_refuses_a_misspelt_key(tmp_path: Path) -> None:
    misspelt = tmp_path / "docker-compose.yml"
    misspelt.write_text(COMPOSE_FILE.read_text().replace("stop_grace_period:", "stop_grace:"))
    result = check_schema(misspelt)
    assert result.returncode == 1
    assert "stop_grace" in result.stdout


def test_the_topology_has_all_its_parts() -> None:
    assert OURS == ["beat", "certificate", "live", "migrate", "web", "worker"]
    assert {*SERVICES} - {*OURS} == {"postgres", "proxy", "redis"}


def test_only_the_proxy_can_be_reached_from_outside_and_by_default_only_from_this_machine() -> None:
    published = {
        name: [*map(interpolated, service["ports"])] for name, service in SERVICES.items() if "ports" in service
    }
    assert published == {"proxy": ["127.0.0.1:8000:8000", "127.0.0.1:8443:8443"]}


def test_the_proxy_reaches_the_servers_and_nothing_behind_them() -> None:
    reached = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert reached["proxy"] == {"edge"}
    assert {name for name, networks in reached.items() if "edge" in networks} == {"proxy", "web", "live"}
    assert reached["postgres"] == reached["redis"] == {"inside"}


def test_the_proxy_and_the_certificate_meet() -> None:
    command = SERVICES["certificate"]["command"]
    (place,) = SERVICES["certificate"]["volumes"]
    folder = command[command.index("--folder") + 1]
    assert interpolated(place) == f"certificates:{folder}"
    assert f"{interpolated(place)}:ro" in map(interpolated, SERVICES["proxy"]["volumes"])
    tls = (ROOT / "deploy" / "nginx-tls.conf").read_text()
    assert [Path(name) for name in re.findall(r"ssl_certificate\w* +(\S+);", tls)] == [
        Path(folder) / certificate.CHAIN,
        Path(folder) / certificate.KEY,
    ]
    # Whoever makes the key and whoever reads it share a group, and the folder is the maker's.
    (user, group) = last("USER", FINAL_STAGE).split(":")
    assert SERVICES["proxy"]["user"].split(":")[1] == group
    assert any(f"--owner {user} --group {group} {folder}" in rest for _, rest in FINAL_STAGE)


@pytest.mark.parametrize("file", ["nginx.conf", "nginx-tls.conf", "nginx-behind-tls.conf", "postgres-init.sh"])
def test_what_is_mounted_exists_where_the_files_say(file: str) -> None:
    assert (ROOT / "deploy" / file).is_file()
    text = COMPOSE_FILE.read_text() + (ROOT / "deploy" / ".env.example").read_text()
    assert f"./deploy/{file}" in text


def test_only_what_changes_tables_is_given_their_owner_and_nobody_the_superuser() -> None:
    given = {name: str(SERVICES[name]["environment"]) for name in OURS}
    assert {name for name, environment in given.items() if "OWNER_DATABASE_PASSWORD" in environment} == {"migrate"}
    assert not any("POSTGRES_PASSWORD" in environment for environment in given.values())
    superuser = SERVICES["postgres"]["environment"]["POSTGRES_USER"]
    assert superuser not in (OWNER, APPLICATION)
    assert f"//{OWNER}:" in SERVICES["migrate"]["environment"]["OWNER_DATABASE_URL"]
    assert f"//{APPLICATION}:" in SERVICES["web"]["environment"]["DATABASE_URL"]


@pytest.mark.parametrize("service", ["web", "live", "worker"])
def test_a_service_that_scales_has_nothing_that_only_one_container_can_have(service: str) -> None:
    assert {"container_name", "hostname", "ports", "volumes"}.isdisjoint(SERVICES[service])


def test_no_secret_has_a_default() -> None:
    text = COMPOSE_FILE.read_text()
    for name in ("SECRET_KEY", "POSTGRES_PASSWORD", "OWNER_DATABASE_PASSWORD", "APP_DATABASE_PASSWORD"):
        assert set(re.findall(rf"\$\{{{name}\b(..)", text)) == {":?"}
        assert re.search(rf"^{name}=$", (ROOT / "deploy" / ".env.example").read_text(), re.MULTILINE)


def test_the_example_environment_names_every_variable_and_its_default() -> None:
    example = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", (ROOT / "deploy" / ".env.example").read_text(), re.MULTILINE))
    asked = dict(re.findall(r"(?<!\$)\$\{([A-Z_]+)(?::-([^}]*)|:\?[^}]*)\}", COMPOSE_FILE.read_text()))
    assert example == asked


@pytest.mark.parametrize("service", OURS)
def test_the_platform_knows_every_variable_that_a_service_gets(service: str) -> None:
    known = set(re.findall(r'_env\.\w+\("(\w+)"', (ROOT / "flowplatform" / "env.py").read_text()))
    given = set(SERVICES[service]["environment"])
    assert {name for name in given if not name.startswith("OTEL_")} <= known  # these are the standard's
    # A role in the environment would also be that of `docker compose exec web python manage.py ...`.
    assert "FLOWPLATFORM_ROLE" not in SERVICES[service]["environment"]


def test_the_checks_for_production_have_nothing_to_say_about_a_container() -> None:
    result = run(["python", "manage.py", "check", "--deploy", "--fail-level", "WARNING"], environment_of("web"))
    assert result.returncode == 0, result.stderr
    # Every check that is silenced has something to say: the settings give the reason not to hear it.
    assert f"({len(settings.SILENCED_SYSTEM_CHECKS)} silenced)" in result.stdout


def test_web_accepts_its_command_and_believes_the_proxy() -> None:
    program, flag, module, *arguments = SERVICES["web"]["command"]
    assert [program, flag, module] == ["python", "-m", "flowplatform.web"]
    given = web.parser().parse_args(arguments)
    assert (given.bind, given.port, given.behind_proxy) == ("0.0.0.0", 8000, True)
    assert web.server_of(given).workers == given.processes


@pytest.mark.usefixtures("django_db_setup")
def test_web_needs_no_variable_but_those_of_the_platform_and_ends_in_order() -> None:
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "FLOWPLATFORM_DATA_DIR": str(DATA_DIR)}
    command = [sys.executable, "-m", "flowplatform.web", "--port", str(port), "--processes", "1"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: process.poll() is not None or answers(port), seconds=40, what="the server")
        kept = http.client.HTTPConnection("127.0.0.1", port)
        assert not closes(kept)
        assert not closes(kept)
    finally:
        process.terminate()
    while not closes(kept):  # without a word a proxy might be sending the next one by now
        pass
    assert process.wait(15) == 0, process.stderr.read() if process.stderr else ""


def closes(connection: http.client.HTTPConnection) -> bool:
    """Ask, and say whether the answer ends the connection."""
    connection.request("GET", "/api/flows")
    with connection.getresponse() as answer:
        assert answer.status == 401
        answer.read()
        return answer.will_close


def answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_the_number_of_web_processes_comes_from_the_environment() -> None:
    result = run(["python", "-m", "flowplatform.web", "--help"], {**environment_of("web"), "WEB_CONCURRENCY": "7"})
    assert "here 7" in result.stdout


def test_behind_the_proxy_the_application_is_told_who_calls_and_how() -> None:
    script = """
from django.core.signals import request_started
from flowplatform.web import behind_proxy
application = behind_proxy()
request_started.connect(
    lambda environ, **_: print(environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]), weak=False
)
environ = {"REMOTE_ADDR": "10.0.0.9", "wsgi.url_scheme": "http", "PATH_INFO": "/none", "REQUEST_METHOD": "GET"}
environ |= {"HTTP_X_REAL_IP": "192.0.2.7", "HTTP_X_FORWARDED_PROTO": "https", "SERVER_NAME": "x"}
environ |= {"HTTP_X_FORWARDED_FOR": "198.51.100.1"}
application({**environ, "SERVER_PORT": "80", "HTTP_HOST": "127.0.0.1", "wsgi.input": None}, lambda *_: None)
"""
    result = run(["python", "-c", script], environment_of("web"))
    assert result.stdout == "192.0.2.7 https\n", result.stderr


def test_live_accepts_its_command() -> None:
    program, flag, module, *arguments = SERVICES["live"]["command"]
    assert [program, flag, module] == ["python", "-m", "flowplatform.live"]
    parsed = Live().parser.parse_args([*arguments, "flowplatform.asgi:application"])
    assert (parsed.host, parsed.port) == ("0.0.0.0", 8001)
    assert (parsed.proxy_headers, parsed.proxy_headers_host) == (True, "X-Real-IP")


@pytest.mark.parametrize("service", ["worker", "beat"])
def test_celery_finds_the_application_and_knows_every_option(service: str) -> None:
    # An option that does not exist is an error even beside --help.
    result = run([*SERVICES[service]["command"], "--help"], environment_of(service))
    assert result.returncode == 0, result.stderr
    assert run([*SERVICES[service]["command"], "--no-such-option", "--help"], environment_of(service)).returncode != 0


def test_the_health_check_of_the_worker_asks_this_worker() -> None:
    kind, command = SERVICES["worker"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    result = run([*shlex.split(interpolated(command)), "--help"], environment_of("worker"))
    assert result.returncode == 0, result.stderr
    # Celery's name for a worker without --hostname ends in the container's host name, which is in $HOSTNAME.
    assert "celery@$HOSTNAME" in interpolated(command)
    assert "--hostname" not in SERVICES["worker"]["command"]


def test_migrate_runs_a_command_that_exists_with_options_that_it_knows() -> None:
    program, script, name, *arguments = SERVICES["migrate"]["command"]
    assert (program, script) == ("python", "manage.py")
    load_command_class("django.core", name).create_parser(script, name).parse_args(arguments)


def test_the_image_is_built_once_and_never_pulled() -> None:
    assert [name for name in OURS if "build" in SERVICES[name]] == ["migrate"]
    assert {SERVICES[name]["pull_policy"] for name in OURS} == {"build", "never"}
    for name in {*OURS} - {"migrate"}:
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "postgres"])
def test_a_container_can_write_nothing_but_its_temporary_folder_and_gain_no_rights(service: str) -> None:
    assert SERVICES[service]["read_only"] is True
    assert SERVICES[service]["cap_drop"] == ["ALL"]
    assert SERVICES[service]["security_opt"] == ["no-new-privileges:true"]


def test_beat_writes_into_the_temporary_folder() -> None:
    command = SERVICES["beat"]["command"]
    (folder,) = SERVICES["beat"]["tmpfs"]
    assert Path(command[command.index("--schedule") + 1]).parent == Path(folder.partition(":")[0])


def test_the_database_keeps_its_data_where_its_version_of_the_image_looks() -> None:
    assert SERVICES["postgres"]["image"] == "postgres:18"
    assert SERVICES["postgres"]["volumes"][0] == "postgres:/var/lib/postgresql"


def test_every_image_of_others_is_of_a_named_release() -> None:
    images = [service["image"] for name, service in SERVICES.items() if name not in OURS]
    for image in images:
        assert re.fullmatch(r"[\w/]+:\d[\w.-]*", image), image
    assert re.search(r"^ARG PYTHON=3\.\d+-slim-\w+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)


def test_the_broker_drops_nothing_when_it_is_full() -> None:
    command = SERVICES["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"


# --- The proxy ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("service", "port_option"), [("web", "--port"), ("live", "--port")])
def test_the_proxy_and_the_health_check_know_where_a_server_listens(service: str, port_option: str) -> None:
    command = SERVICES[service]["command"]
    port = command[command.index(port_option) + 1].rpartition(":")[2]
    assert f"server {service}:{port} resolve max_fails=0;" in NGINX_CONF
    own = SERVICES[service].get("healthcheck", {}).get("test")
    check = own or ["CMD", *yaml.safe_load(last("HEALTHCHECK", FINAL_STAGE).partition(" CMD ")[2])]
    assert check == ["CMD", "python", "deploy/healthcheck.py", "--port", port]


def test_the_proxy_sends_sockets_to_live_and_the_rest_to_web() -> None:
    locations = re.findall(r"location (\S+) \{(?:[^{}]|\{[^}]*\})*?proxy_pass http://(\w+);", NGINX_CONF)
    assert dict(locations) == {"/": "web", "/api/": "web", "/ws/": "live"}


def test_every_way_through_the_proxy_says_who_called_and_how() -> None:
    for header in ("Host $http_host", "X-Real-IP $remote_addr", "X-Forwarded-For $remote_addr", "X-Forwarded-Proto"):
        # Once for the server and once for /ws/, which inherits none because it sets some of its own.
        assert NGINX_CONF.count(f"proxy_set_header {header}") == 2


def test_an_idle_connection_ends_at_the_proxy_before_it_ends_at_the_server() -> None:
    proxy = re.search(r"keepalive_timeout (\d+)s", NGINX_CONF)
    assert proxy is not None
    assert int(proxy[1]) < web.IDLE_SECONDS


# --- The image ------------------------------------------------------------------------------------------------------


def test_the_image_gets_every_app_of_ours() -> None:
    folders = {Path(app.path).relative_to(ROOT).parts[0] for app in apps.get_app_configs() if is_ours(app.path)}
    missing = sorted(folder for folder in folders if not is_in_build_context(f"{folder}/models.py"))
    assert missing == [], "add them to .dockerignore"


def is_ours(path: str) -> bool:
    return Path(path).is_relative_to(ROOT) and ".venv" not in Path(path).parts


@pytest.mark.parametrize("path", ["manage.py", "requirements.txt", "deploy/healthcheck.py", "deploy/certificate.py"])
def test_the_image_gets_what_its_commands_need(path: str) -> None:
    assert (ROOT / path).is_file()
    assert is_in_build_context(path)


@pytest.mark.parametrize(
    "path", [".env", "deploy/.env", ".git/config", ".data/secret_key", ".venv/bin/python", "tests/stack.py", "a.dump"]
)
def test_the_image_gets_no_secret_no_data_and_no_history(path: str) -> None:
    assert not is_in_build_context(path)


def test_the_image_finds_the_client_that_its_commands_use() -> None:
    (path,) = re.findall(r"PYTHONPATH=/app/(\S+)", last("ENV", FINAL_STAGE))
    assert (ROOT / path / "flowplatform_client" / "__init__.py").is_file()
    assert is_in_build_context(f"{path}/flowplatform_client/__init__.py")


def test_what_the_dockerfile_copies_exists() -> None:
    for stage in (BUILD_STAGE, FINAL_STAGE):
        for source in (rest.split()[0] for keyword, rest in stage if keyword == "COPY" and "--from=" not in rest):
            assert (ROOT / source).exists(), source
            assert source == "." or is_in_build_context(source), source


def test_packages_are_installed_from_the_lock_alone_and_without_a_compiler() -> None:
    (install,) = [rest for keyword, rest in BUILD_STAGE if keyword == "RUN" and "pip" in rest and "install" in rest]
    assert "--require-hashes" in install
    assert "--only-binary :all:" in install
    commands = [rest for stage in (BUILD_STAGE, FINAL_STAGE) for keyword, rest in stage if keyword == "RUN"]
    assert not any("apt" in command or "gcc" in command for command in commands)


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_every_package_of_a_lock_is_pinned_and_has_hashes(lock: str) -> None:
    joined = (ROOT / lock).read_text().replace("\\\n", " ")
    packages = [line for line in joined.splitlines() if line and not line.lstrip().startswith("#")]
    assert len(packages) > 20
    for package in packages:
        assert re.match(r"[\w.-]+(\[[\w,-]+\])?==[\w.!+]+ ", package), package
        assert "--hash=sha256:" in package, package


def test_the_container_does_not_run_as_root() -> None:
    user = last("USER", FINAL_STAGE)
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", user)
    # Celery warns of a group without a name as if it were root's.
    (group, _) = user.split(":")
    assert any(f"--gid {group}" in rest for keyword, rest in FINAL_STAGE if keyword == "RUN")


def test_servers_are_started_without_a_shell_so_that_they_hear_signals() -> None:
    assert isinstance(yaml.safe_load(last("CMD", FINAL_STAGE)), list)
    for name in OURS:
        assert isinstance(SERVICES[name]["command"], list), name


def test_the_image_serves_the_web_role_by_itself() -> None:
    command = yaml.safe_load(last("CMD", FINAL_STAGE))
    assert SERVICES["web"]["command"][: len(command)] == command


def test_the_image_collects_the_static_files_with_nothing_around_it(tmp_path: Path) -> None:
    """Run the step of the Dockerfile as it is, into another folder."""
    (step,) = [rest for keyword, rest in BUILD_STAGE if keyword == "RUN" and "collectstatic" in rest]
    words = shlex.split(step)
    given = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
    command = words[len(given) :]
    assert command[0] == "/opt/venv/bin/python"
    assert f"STATIC_ROOT={given['STATIC_ROOT']}" in last("ENV", FINAL_STAGE).split()
    environment = {"PATH": os.environ["PATH"], **given, "STATIC_ROOT": str(tmp_path)}
    result = run(["python", *command[1:]], {**environment, "FLOWPLATFORM_DATA_DIR": "/nonexistent"})
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "admin" / "css" / "base.css").is_file()
    assert any((tmp_path / "flowplatform").rglob("*.css"))


def test_the_health_check_tells_a_server_from_silence(platform: Platform) -> None:
    command = ["python", "deploy/healthcheck.py", "--port"]
    healthy = run([*command, str(platform.port)], environment_of("live"))
    assert healthy.returncode == 0, healthy.stderr
    silent = run([*command, str(free_port())], environment_of("live"))
    assert silent.returncode == 1
    assert "no answer" in silent.stderr


def test_the_health_check_asks_by_an_address_whatever_the_names_of_the_platform_are(platform: Platform) -> None:
    command = ["python", "deploy/healthcheck.py", "--port", str(platform.port)]
    assert run(command, {**environment_of("live"), "ALLOWED_HOSTS": "flows.example.org"}).returncode == 0
