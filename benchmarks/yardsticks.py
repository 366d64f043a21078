"""The yardsticks of `../shared/bench`, if that folder is there: a floor and a FastAPI peer with a schema of their own.

They are not part of the project, and whoever has only the project does without their figures. They run on the same
PostgreSQL as everything else; our own load generator is the peer's.
"""

import json
import os
import subprocess
import sys

import psycopg

from benchmarks.packages import NotInstallableError, folder_with
from benchmarks.servers import WEB_PROCESSES
from benchmarks.workload import EXECUTIONS, Execution
from flowplatform import env
from flowplatform.processes import Program
from flowplatform.topology import HOST

_FOLDER = env.BASE_DIR.parent / "shared" / "bench"
_PACKAGES = ["asyncpg", "fastapi", "uvicorn", "uvloop", "httptools"]
TOKEN = "secret"  # of the peer's own schema
PATH = "/fa/{execution}/task-status"
TASK = "task_{}"

# As the platform's: every task has an output, so that nobody measures first inserts.
_FILL = """
    INSERT INTO lab.task_output (flow_execution_id, task_name, processing_status, organization_id, updated_at)
    SELECT id, unnest(task_names), 'running', organization_id, now() FROM lab.flow_execution
"""


class AbsentError(Exception):
    """The yardsticks cannot run; the message is one sentence."""


class Yardsticks:
    """The yardsticks, ready to run on a database."""

    def __init__(self, database: str) -> None:
        """Raise AbsentError where they cannot run."""
        if not (_FOLDER / "floor.py").exists():
            raise AbsentError("there is no ../shared/bench")
        try:
            packages = folder_with("yardsticks", _PACKAGES)
        except NotInstallableError as error:
            raise AbsentError(str(error)) from error
        self._environment = {
            "DATABASE_URL": database,
            "PYTHONPATH": str(packages),
            "PYTHONDONTWRITEBYTECODE": "1",  # the folder is not ours
        }
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute((_FOLDER / "schema.sql").read_bytes())
            connection.execute(_FILL)

    def peer(self, port: int) -> Program:
        """Return the FastAPI peer."""
        command = [sys.executable, "-m", "uvicorn", "fastapi_reference:app", "--app-dir", str(_FOLDER), "--host", HOST]
        command += ["--port", str(port), "--workers", str(WEB_PROCESSES), "--loop", "uvloop", "--http", "httptools"]
        return Program("fastapi", [*command, "--no-access-log", "--log-level", "warning"], self._environment)

    def floor(self, size: int, processes: int, seconds: float) -> tuple[float, float]:
        """Run the floor; return its batches per second and its median in milliseconds."""
        done = subprocess.run(
            [sys.executable, "floor.py", str(size), str(processes), str(seconds)],
            cwd=_FOLDER,
            env={**os.environ, **self._environment},
            check=True,
            stdout=subprocess.PIPE,
            timeout=seconds + 60,
        )
        told = json.loads(done.stdout)
        return told["batches_per_s"], told["p50_ms"]


def executions() -> list[Execution]:
    """Return the executions of the yardsticks' schema."""
    return [Execution(f"00000000-0000-0000-0000-{number:012d}", "") for number in range(EXECUTIONS)]
