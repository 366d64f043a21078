"""What an installation may say in its environment, and what it is told when that is wrong."""

import subprocess
import sys

import pytest

from tests.servers import DATA_DIR
from tests.stack import ROOT

PRINT = """
from django.conf import settings
print(settings.CELERY_BROKER_URL, settings.CHANNEL_LAYERS["default"]["CONFIG"]["hosts"][0]["address"])
"""


def settings_with(script: str = PRINT, **environment: str) -> subprocess.CompletedProcess[str]:
    everything = {"DJANGO_SETTINGS_MODULE": "flowplatform.settings", "PATH": "/usr/bin", **environment}
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, env=everything, capture_output=True, text=True)


EXTERNAL = {"DATABASE_URL": "postgres://u:p@db/flowplatform", "SECRET_KEY": "x" * 50}


@pytest.mark.parametrize(
    ("url", "broker", "layer"),
    [
        ("redis://h:6379", "redis://h:6379/0", "redis://h:6379/1"),
        ("redis://:secret@h:6379/0", "redis://:secret@h:6379/0", "redis://:secret@h:6379/1"),
        (
            "rediss://h:6380?ssl_cert_reqs=none",
            "rediss://h:6380/0?ssl_cert_reqs=none",
            "rediss://h:6380/1?ssl_cert_reqs=none",
        ),
        ("unix:///run/v.sock", "redis+socket:///run/v.sock?virtual_host=0", "unix:///run/v.sock?db=1"),
        ("unix:///run/v.sock?db=3", "redis+socket:///run/v.sock?virtual_host=0", "unix:///run/v.sock?db=1"),
    ],
)
def test_the_broker_and_the_channel_layer_get_databases_of_their_own(url: str, broker: str, layer: str) -> None:
    assert settings_with(REDIS_URL=url, **EXTERNAL).stdout.split() == [broker, layer]


def test_a_redis_url_that_names_another_database_is_refused() -> None:
    assert "leave it out" in settings_with(REDIS_URL="redis://h:6379/1", **EXTERNAL).stderr


def test_the_worker_keeps_its_connection_although_celery_would_close_it_after_every_task() -> None:
    script = """
import django
django.setup()
from celery.fixups.django import DjangoWorkerFixup
from django.db import connection
from flowplatform.celery import app
for task in range(20):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        print(cursor.fetchone()[0])
    DjangoWorkerFixup(app).close_database()
"""
    ours = {"FLOWPLATFORM_ROLE": "worker", "FLOWPLATFORM_DATA_DIR": str(DATA_DIR)}
    result = settings_with(script, **ours)
    pids = result.stdout.split()
    assert len(pids) == 20, result.stderr
    assert len(set(pids)) == 1


def test_every_value_that_cannot_be_read_is_told_in_a_sentence_without_a_traceback_or_a_password() -> None:
    wrong = {"DATABASE_URL": "mysql://u:tiger@db/x", "HISTORY_RETENTION_DAYS": "-1", "DEBUG": "maybe"}
    result = settings_with(**wrong)
    assert result.returncode == 1
    assert [line.split(": ")[1] for line in result.stderr.splitlines()] == [
        "DATABASE_URL", "HISTORY_RETENTION_DAYS", "DEBUG",
    ]  # fmt: skip
    assert "tiger" not in result.stderr


def test_commands_need_no_secret() -> None:
    script = "from django.conf import settings; print(settings.ALLOWED_HOSTS)"
    assert settings_with(script, DATABASE_URL="postgres://u:p@db/x").stdout == "[]\n"
