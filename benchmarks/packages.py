"""Packages that only a benchmark needs, in folders of their own: the platform and its users do not have them."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_SECONDS = 300.0


class NotInstallableError(Exception):
    """The packages are neither here nor to be had; the message is one sentence."""


def folder_with(name: str, packages: Sequence[str]) -> Path:
    """Return the folder of the virtual environment that has the packages, filled by pip if it is missing.

    Raises NotInstallableError.
    """
    folder = Path(sys.prefix) / "benchmarks" / name
    complete = folder / ".complete"
    if not complete.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-input", "--upgrade", "--target"]
        try:
            subprocess.run(
                [*command, str(folder), *packages], check=True, capture_output=True, text=True, timeout=_SECONDS
            )
        except subprocess.CalledProcessError as error:
            last = (error.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise NotInstallableError(f"{', '.join(packages)} cannot be installed: {last}") from error
        except subprocess.TimeoutExpired as error:
            raise NotInstallableError(f"{', '.join(packages)} were not installed within {_SECONDS:.0f} s.") from error
        complete.touch()
    return folder
