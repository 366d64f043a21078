"""The nginx of the suite: the project's own `deploy/nginx.conf`, with other addresses.

What is rewritten is where things are, never what nginx does with them:

- the names of containers become the ports of the suite's processes, one line for each, and the name server goes;
- the port becomes one on 127.0.0.1;
- the temporary folder becomes the suite's, as do the process id and the access log.

Every rewriting has to find its place, so a change of the shipped file that this module does not understand is an error.
"""

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.stack import ROOT

SHIPPED = ROOT / "deploy" / "nginx.conf"
PROGRAM = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin")
MISSING = "nginx is not installed: apt-get install --no-install-recommends nginx"


def configuration(*, folder: Path, port: int, web: Sequence[int], live: Sequence[int]) -> str:
    """Return the shipped configuration for these ports."""
    text = SHIPPED.read_text()
    for pattern, replacement in (
        (r"^ *resolver .*;.*\n", ""),
        (r"^( *)server web:8000 resolve(.*);", _servers(web)),
        (r"^( *)server live:8001 resolve(.*);", _servers(live)),
        (r"\blisten 8000;", f"listen 127.0.0.1:{port};"),
        (r"/etc/nginx/", f"{folder}/"),  # what an installation adds: nothing
        (r"/tmp/", f"{folder}/"),
        (r"/dev/stdout", f"{folder}/access.log"),
    ):
        text, found = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert found, f"{SHIPPED} has no {pattern} any more: tell tests/faults/nginx.py what is there instead"
    return text


def _servers(ports: Sequence[int]) -> str:
    return "\n".join(rf"\g<1>server 127.0.0.1:{port}\g<2>;" for port in ports)


class Nginx:
    """The process."""

    def __init__(self, folder: Path, port: int, web: Sequence[int], live: Sequence[int]) -> None:
        folder.mkdir()
        folder.chmod(0o755)  # its workers are of another account when we are root
        path = folder / "nginx.conf"
        path.write_text(configuration(folder=folder, port=port, web=web, live=live))
        self.log = folder / "error.log"
        assert PROGRAM is not None
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "-e", "stderr", "-p", str(folder), "-c", str(path), "-g", "daemon off;"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def check(self) -> None:
        assert self._process.poll() is None, self.log.read_text()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(15)
