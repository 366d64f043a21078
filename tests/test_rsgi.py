"""What `flowplatform/rsgi.py` does where granian offers nothing; `tests/abuse` attacks the whole of it."""

import socket
from contextlib import ExitStack

import pytest

from flowplatform.gateway import environment
from flowplatform.rsgi import _cut

HOST = "127.0.0.1"


def test_a_connection_that_is_cut_ends_for_its_client_and_for_no_other() -> None:
    """What web does to a client that stalls: granian would end the answer as if it were whole."""
    with socket.create_server((HOST, 0)) as server, ExitStack() as stack:
        one, other = (stack.enter_context(socket.create_connection(server.getsockname())) for _ in range(2))
        for _ in range(2):
            stack.enter_context(server.accept()[0])
        _cut(f"{HOST}:{one.getsockname()[1]}")
        assert one.recv(1) == b""
        other.settimeout(0.2)
        with pytest.raises(TimeoutError):
            other.recv(1)


def test_a_header_with_an_underscore_does_not_pass_for_one_with_a_hyphen() -> None:
    headers = [("content_length", "200000000"), ("x_real_ip", "203.0.113.9"), ("x-real-ip", "198.51.100.7")]
    named = environment(headers)
    assert "CONTENT_LENGTH" not in named
    assert named["HTTP_X_REAL_IP"] == "198.51.100.7"
