"""`python deploy/audit.py`: look the locks up among the known vulnerabilities, by pip-audit.

Exit code 0: every package was looked up and nothing is known. 1: something is. 2: not everything could be looked up,
which is not the same as nothing being known; with --allow-unchecked that is said and is 0, if nothing is known of the
rest.

pip-audit alone answers "no known vulnerabilities" where its service does not know a package at all, such as behind a
mirror of PyPI that has no answers about them.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ("requirements.txt", "requirements-dev.txt", "requirements-telemetry.txt")


@dataclass(frozen=True)
class Finding:
    """What is known of a package."""

    package: str
    id: str
    repaired_in: str

    def __str__(self) -> str:
        return f"{self.package}: {self.id}, repaired in {self.repaired_in or 'no version yet'}"


@dataclass
class Result:
    """What the look-up of one lock brought."""

    checked: int
    findings: list[Finding]
    unchecked: str  # why not everything was; empty if it was


def main() -> int:
    """Look up every lock and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--allow-unchecked", action="store_true", help="exit 0 where the service cannot be asked")
    parser.add_argument("--lock", type=Path, action="append", help="another file with hashes, instead of the locks")
    given = parser.parse_args()
    results = {lock.name: audit(lock) for lock in given.lock or [ROOT / name for name in LOCKS]}
    for name, result in results.items():
        print(f"{name}: {result.checked} packages looked up, {len(result.findings)} known vulnerabilities")
        for finding in result.findings:
            print(f"  {finding}")
        if result.unchecked:
            print(f"  NOT CHECKED: {result.unchecked}")
    return exit_code(list(results.values()), allow_unchecked=given.allow_unchecked)


def exit_code(results: list[Result], *, allow_unchecked: bool) -> int:
    """Return what make and CI are told."""
    if any(result.findings for result in results):
        return 1
    return 2 if any(result.unchecked for result in results) and not allow_unchecked else 0


def audit(lock: Path) -> Result:
    """Look up the packages of a lock."""
    with TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        options = ["--require-hashes", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "pip_audit",
            "--requirement",
            lock,
            *options,
            "--output",
            answer,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not answer.exists():  # it ends with 1 in either case
            return Result(0, [], (done.stderr.strip().splitlines() or ["pip-audit said nothing"])[-1])
        return read(json.loads(answer.read_text())["dependencies"])


def read(packages: list[dict[str, Any]]) -> Result:
    """Return what an answer of pip-audit says."""
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    others = f" and {len(skipped) - 1} others" if len(skipped) > 1 else ""
    reason = f"the service knows nothing of {skipped[0]}{others}" if skipped else ""
    findings = [finding for one in packages for finding in _findings(one)]
    return Result(len(packages) - len(skipped), findings, reason)


def _findings(package: dict[str, Any]) -> Iterator[Finding]:
    for one in package.get("vulns", []):
        yield Finding(f"{package['name']} {package['version']}", one["id"], ", ".join(one["fix_versions"]))


if __name__ == "__main__":
    sys.exit(main())
