"""A data directory for one benchmark: Django is set up for it, and nothing is left of it afterwards."""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# What would lead to an installation that is there already.
_FOREIGN = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ALLOWED_HOSTS", "FLOWPLATFORM_ROLE", "DEBUG")


def in_scratch(run: Callable[[Path], int], *, parent: Path | None = None) -> int:
    """Return the exit code of `run`, called with an empty data directory; 130 for Ctrl-C.

    Django's settings are read only now: `run` imports what needs them. The directory is made in `parent`, or in the
    temporary folder.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # else nobody would stop the servers
    home = Path(tempfile.mkdtemp(prefix="flowplatform-bench-", dir=parent))
    for variable in _FOREIGN:
        os.environ.pop(variable, None)
    os.environ.update(FLOWPLATFORM_DATA_DIR=str(home), DJANGO_SETTINGS_MODULE="flowplatform.settings")
    try:
        import django

        django.setup()
        return run(home)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(home, ignore_errors=True)
