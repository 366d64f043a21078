"""The pytest plugin that gives every run a PostgreSQL and a Valkey of its own, in a data directory that goes with it.

Loaded by `-p tests.servers` before Django reads its settings, which take the servers' addresses from the directory.
"""

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from flowplatform import embedded, role

for variable in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ALLOWED_HOSTS", "FLOWPLATFORM_TOKEN"):
    os.environ.pop(variable, None)
DATA_DIR = Path(tempfile.mkdtemp(prefix="flowplatform-tests-"))
os.environ["FLOWPLATFORM_DATA_DIR"] = str(DATA_DIR)
# The tests are one address that asks as nobody and with wrong tokens all the time; those of the limits set their own.
for limited in ("PERSON", "ANONYMOUS", "FAILURES", "SIGN_INS", "SOCKETS", "SOCKETS_ADDRESS"):
    os.environ[f"RATE_LIMIT_{limited}"] = "1000000/10 seconds"
# The processes of the tests import the client of this checkout, whatever is installed.
CLIENT = Path(__file__).resolve().parent.parent / "client" / "src"
os.environ["PYTHONPATH"] = os.pathsep.join([str(CLIENT), *filter(None, [os.environ.get("PYTHONPATH")])])
role.claim("test")

_running = ExitStack()


def pytest_sessionstart(session: pytest.Session) -> None:
    _running.callback(shutil.rmtree, DATA_DIR, ignore_errors=True)
    if not (session.config.option.collectonly or _only_hands_out(session.config)):
        _running.enter_context(embedded.servers(DATA_DIR))


def pytest_sessionfinish(session: pytest.Session) -> None:
    _running.close()


def _only_hands_out(config: pytest.Config) -> bool:
    """Say whether this process runs no test itself: `make test` has several that do, each with servers of its own."""
    return bool(config.getoption("numprocesses", None)) and not hasattr(config, "workerinput")
