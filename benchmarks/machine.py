"""What a result was measured on: nobody can read a number without it."""

import os
import platform
import re
import subprocess
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from flowplatform import env

_PACKAGES = ("Django", "djangorestframework", "psycopg", "daphne", "granian", "celery")


def describe() -> dict[str, Any]:
    """Return the machine, the versions, and the commit; no name of the machine, its user or a folder."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(_git("status", "--porcelain")),
        "machine": {
            "cpu": _first_match("/proc/cpuinfo", r"^model name\s*: (.+)$") or platform.processor(),
            "cores": _cores(),
            "memory_mib": int(_first_match("/proc/meminfo", r"^MemTotal:\s+(\d+) kB$") or 0) // 1024,
            "kernel": f"{platform.system()} {platform.release()}",
            "load_before": round(os.getloadavg()[0], 2),
            "file_system_of_the_database": _file_system(env.DATA_DIR),
        },
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
    }


def _cores() -> int:
    """Return how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _first_match(path: str, pattern: str) -> str:
    with suppress(OSError):
        if found := re.search(pattern, Path(path).read_text(), re.MULTILINE):
            return found[1]
    return ""


def _file_system(folder: Path) -> str:
    """Return its type: on a tmpfs a commit costs no write to a disk."""
    best = ("", "unknown")
    with suppress(OSError):
        for line in Path("/proc/mounts").read_text().splitlines():
            _, mount, kind, *_ = line.split()
            if folder.is_relative_to(mount) and len(mount) >= len(best[0]):
                best = (mount, kind)
    return best[1]


def _git(*arguments: str) -> str | None:
    with suppress(OSError, subprocess.CalledProcessError):
        done = subprocess.run(["git", *arguments], cwd=env.BASE_DIR, check=True, capture_output=True, text=True)
        return done.stdout.strip()
    return None
