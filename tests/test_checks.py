"""What an installation must not serve with, and how every role refuses it."""

import contextlib
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.core.checks import ERROR, run_checks
from pytest_django import Settings

from flowplatform import checks, env, role
from flowplatform.embedded import database_url, owner_database_url, redis_url
from flowplatform.embedded.place import valkey_program
from tests.servers import DATA_DIR
from tests.stack import ROOT, free_port, wait_until

SAFE = {
    "PATH": os.environ["PATH"],
    "FLOWPLATFORM_DATA_DIR": "/nonexistent",
    "DATABASE_URL": "postgresql://somebody:tiger@127.0.0.1:1/flowplatform",
    "REDIS_URL": "redis://127.0.0.1:1",
    "SECRET_KEY": secrets.token_hex(32),
    "ALLOWED_HOSTS": "flows.example.org",
}
ROLES = {
    "web": ["flowplatform.web", "--port", "0"],
    "live": ["flowplatform.live", "--port", "0"],
    "worker": ["celery", "-A", "flowplatform.celery", "worker", "--pool", "threads"],
    "beat": ["celery", "-A", "flowplatform.celery", "beat", "--schedule", "/nonexistent/schedule"],
}


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    everything = {**SAFE, **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=everything, capture_output=True, text=True, timeout=60, check=False
    )


# --- The roles ------------------------------------------------------------------------------------------------------


def test_every_role_refuses_in_sentences_and_serves_nothing() -> None:
    unsafe = {"DEBUG": "true", "SECRET_KEY": "", "ALLOWED_HOSTS": "*"}
    with ThreadPoolExecutor(2) as pool:
        for result in pool.map(lambda command: run("-m", *command, **unsafe), ROLES.values()):
            assert result.returncode == 1
            assert "Traceback" not in result.stderr
            said = [line for line in result.stderr.splitlines() if line.startswith("flowplatform: ")]
            assert [line.split()[1] for line in said] == ["DEBUG", "SECRET_KEY", "ALLOWED_HOSTS"], result.stderr
            assert "openssl rand -hex 32" in said[1]


def test_the_application_refuses_behind_any_other_server_too() -> None:
    result = run("-c", "import flowplatform.wsgi; print('serves')", ALLOWED_HOSTS="")
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("flowplatform: ALLOWED_HOSTS is empty.")


def test_a_safe_web_serves_and_tells_browsers_to_stay_with_https(django_db_setup: None) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}/login/"
    with serving(port, SECURE_COOKIES="true") as process:
        plain = httpx.get(url)
        assert "Strict-Transport-Security" not in plain.headers
        by_https = httpx.get(url, headers={"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https"})
        assert by_https.headers.get_list("Strict-Transport-Security") == ["max-age=31536000"]
        assert "Secure" in by_https.headers["Set-Cookie"]
    assert process.stderr is not None
    assert "flowplatform: " not in process.stderr.read()


@contextlib.contextmanager
def serving(port: int, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Have web serve the database of these tests as an installation of its own would."""
    ours = {"DATABASE_URL": database_url(DATA_DIR), "REDIS_URL": redis_url(DATA_DIR), "ALLOWED_HOSTS": "127.0.0.1"}
    command = ["-m", "flowplatform.web", "--port", str(port), "--processes", "1", "--behind-proxy"]
    everything = {**SAFE, **ours, **environment}
    process = subprocess.Popen([sys.executable, *command], cwd=ROOT, env=everything, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: process.poll() is not None or _answers(port), seconds=40, what="the server")
        yield process
    finally:
        process.terminate()
        process.wait(15)


def _answers(port: int) -> bool:
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"http://127.0.0.1:{port}/api/flows").status_code == 401
    return False


def test_commands_run_so_that_somebody_can_repair_it() -> None:
    script = "import django; django.setup(); print('runs')"
    ours = {"DJANGO_SETTINGS_MODULE": "flowplatform.settings", "ALLOWED_HOSTS": "*", "SECRET_KEY": "short"}
    assert run("-c", script, **ours).stdout == "runs\n"


# --- The checks -----------------------------------------------------------------------------------------------------


def found(level: int = 0) -> list[str]:
    """Return the ids of what a process that is about to serve would hear."""
    messages = run_checks(tags=[checks.PRODUCTION], include_deployment_checks=True)
    return [str(message.id) for message in messages if message.level >= level]


@pytest.fixture
def installation(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A safe installation with a database of its own."""
    monkeypatch.setattr(env, "EMBEDDED", False)
    monkeypatch.setattr(env, "SECRET_KEY", SAFE["SECRET_KEY"])
    monkeypatch.setattr(env, "DATABASE_URL", database_url(DATA_DIR))
    settings.ALLOWED_HOSTS = ["flows.example.org", ".example.org"]
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    return settings


def test_a_safe_installation_hears_nothing(installation: Settings) -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("name", "value", "id"),
    [
        ("DEBUG", True, "flowplatform.E001"),
        ("ALLOWED_HOSTS", [], "flowplatform.E003"),
        ("ALLOWED_HOSTS", ["flows.example.org", "*"], "flowplatform.E003"),
        ("SESSION_COOKIE_SECURE", False, "flowplatform.E004"),
        ("CSRF_COOKIE_SECURE", False, "flowplatform.E004"),
        ("CSRF_TRUSTED_ORIGINS", ["https://*.example.org"], "flowplatform.E005"),
        ("SECURE_PROXY_SSL_HEADER", ("HTTP_X_FORWARDED_PROTO", "https"), "flowplatform.E006"),
        ("USE_X_FORWARDED_HOST", True, "flowplatform.E006"),
    ],
)
def test_an_unsafe_setting_is_an_error(installation: Settings, name: str, value: object, id: str) -> None:
    setattr(installation, name, value)
    assert found(level=ERROR) == [id]


@pytest.mark.parametrize("key", ["", "x" * 49, "ab" * 40, "django-insecure-" + "0123456789" * 5, "changeme-" * 8])
def test_a_secret_that_is_missing_short_or_known_is_an_error(
    installation: Settings, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(env, "SECRET_KEY", key)
    assert found() == ["flowplatform.E002"]


def test_a_database_role_that_row_level_security_does_not_bind_is_an_error(
    installation: Settings, monkeypatch: pytest.MonkeyPatch, django_db_setup: None
) -> None:
    monkeypatch.setattr(env, "DATABASE_URL", owner_database_url(DATA_DIR))
    assert found() == ["flowplatform.E008"]
    monkeypatch.setattr(env, "DATABASE_URL", SAFE["DATABASE_URL"])  # nobody is there
    assert found() == []


def test_cookies_over_plain_http_are_a_warning_where_somebody_asked_for_them(
    installation: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env, "SECURE_COOKIES_ARE_OFF", True)
    installation.SESSION_COOKIE_SECURE = installation.CSRF_COOKIE_SECURE = False
    assert found() == ["flowplatform.W004"]


def test_the_embedded_mode_hears_nothing_whatever_it_does(settings: Settings, capsys: Any) -> None:
    settings.DEBUG, settings.ALLOWED_HOSTS = True, ["*"]
    assert found() == []
    checks.refuse_unsafe()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("policy", "ids"), [("noeviction", []), ("allkeys-lru", ["flowplatform.W007"])])
def test_a_broker_that_drops_what_waits_is_a_warning(
    installation: Settings, monkeypatch: pytest.MonkeyPatch, policy: str, ids: list[str]
) -> None:
    port = free_port()
    server = [valkey_program(), "--port", str(port), "--save", "", "--maxmemory-policy", policy]
    process = subprocess.Popen(server, cwd="/tmp", stdout=subprocess.DEVNULL)
    installation.REDIS_URL = f"redis://127.0.0.1:{port}"
    try:
        wait_until(lambda: checks._eviction_policy() is not None, what="the broker")
        for name, expected in (("worker", ids), ("web", [])):
            monkeypatch.setattr(role, "current", lambda name=name: name)
            assert found() == expected
    finally:
        process.terminate()
        process.wait(10)


def test_a_broker_that_is_away_is_no_reason_not_to_start(installation: Settings) -> None:
    installation.REDIS_URL = "redis://127.0.0.1:1"
    assert found() == []
