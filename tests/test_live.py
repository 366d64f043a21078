"""Daphne as we run it: an answer that breaks is known to be broken, and who leaves lets nobody in."""

import errno
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import httpx
import pytest

from tests.stack import ROOT, free_port, wait_until

_PROGRAM = (
    "import sys; from flowplatform.live import Live;"
    "Live().run(['--port', sys.argv[1], '--verbosity', '0', 'tests.slow_and_broken:application'])"
)


@pytest.fixture
def server() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    port = free_port()
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(port)], cwd=ROOT, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        with suppress(httpx.ConnectError):
            return httpx.get(f"{url}/slow").status_code == 200
        return False

    wait_until(answers, seconds=30, what="the first answer")
    yield process, url
    process.kill()
    process.wait()


def test_an_answer_that_breaks_after_its_first_bytes_ends_with_its_connection(
    server: tuple[subprocess.Popen[bytes], str],
) -> None:
    with pytest.raises((httpx.RemoteProtocolError, httpx.ReadError)):
        httpx.get(server[1], timeout=10)


def test_who_was_asked_to_leave_finishes_what_is_being_answered_and_lets_nobody_in(
    server: tuple[subprocess.Popen[bytes], str],
) -> None:
    process, url = server

    def is_refused() -> bool:
        with socket.socket() as newcomer:
            return newcomer.connect_ex(("127.0.0.1", int(url.rpartition(":")[2]))) == errno.ECONNREFUSED

    with httpx.Client() as client, client.stream("GET", f"{url}/slow") as answer:
        parts = answer.iter_bytes()
        assert next(parts) == b"begun, "
        process.send_signal(signal.SIGTERM)
        wait_until(is_refused, seconds=1.8, what="a refusal while an answer is under way")
        assert b"".join(parts) == b"and done"
    assert process.wait(10) == 0
