"""The proxy as it is shipped: a real nginx with `deploy/nginx.conf` and `deploy/nginx-tls.conf`, at other addresses."""

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import httpx
import pytest
from websockets.asyncio.client import connect

from tests.conftest import Platform
from tests.stack import ROOT, free_port, wait_until

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
MISSING = "No nginx was found, which the tests of the proxy need: install it (on Debian: apt install nginx)."
LIMIT = 3  # of connections, in place of the shipped one


class Echo(BaseHTTPRequestHandler):
    """Stands in for web, to show what arrives there: answers with the headers of the request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if "slow" in self.path:
            time.sleep(1)
        body = json.dumps(dict(self.headers)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Proxy:
    """An nginx in front of a web that echoes and the live process of the platform."""

    def __init__(self, folder: Path, web_port: int, live_port: int) -> None:
        self.folder = folder
        self.plain, self.tls = free_port(), free_port()
        for name in ("acme/.well-known/acme-challenge", "server.d", "certificates"):
            (folder / name).mkdir(parents=True)
        make = [sys.executable, "deploy/certificate.py", "--folder", str(folder / "certificates")]
        environment = {**os.environ, "ALLOWED_HOSTS": "localhost,127.0.0.1"}
        subprocess.run(make, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        (folder / "server.d" / "server.conf").write_text(self._tls())
        (folder / "nginx.conf").write_text(self._main(web_port, live_port))

    def _main(self, web_port: int, live_port: int) -> str:
        return rewritten(
            "nginx.conf",
            (r"/tmp/", f"{self.folder}/"),
            (r"^ *resolver .*\n", ""),
            (r"server web:8000 resolve", f"server 127.0.0.1:{web_port}"),
            (r"server live:8001 resolve", f"server 127.0.0.1:{live_port}"),
            (r"listen 8000;", f"listen 127.0.0.1:{self.plain};"),
            (r"/etc/nginx/server\.d", f"{self.folder}/server.d"),
            (r"/dev/stdout", f"{self.folder}/access.log"),
            (r"(client_(?:header|body)_timeout) 10s;", r"\1 1s;"),
            (r"limit_conn addresses 1000;", f"limit_conn addresses {LIMIT};"),
        )

    def _tls(self) -> str:
        return rewritten(
            "nginx-tls.conf",
            # Debian's nginx is older than the image's, and has another way to say it.
            (r"listen 8443 ssl;\nhttp2 on;", f"listen 127.0.0.1:{self.tls} ssl http2;"),
            (r"/certificates", f"{self.folder}/certificates"),
            (r"root /acme;", f"root {self.folder}/acme;"),
        )

    def start(self) -> "subprocess.Popen[bytes]":
        assert NGINX is not None, MISSING
        ours = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")  # the folder is nobody else's to read
        command = [NGINX, "-e", "stderr", "-p", self.folder, "-c", self.folder / "nginx.conf", "-g", ours]
        process = subprocess.Popen(command, stderr=(self.folder / "error.log").open("ab"))
        wait_until(lambda: process.poll() is not None or answers(self.plain), what="nginx")
        assert process.poll() is None, (self.folder / "error.log").read_text()
        return process

    @property
    def url(self) -> str:
        return f"https://localhost:{self.tls}"

    @property
    def trust(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.folder / "certificates" / "fullchain.pem")

    def ask(self, path: str, method: str = "GET", **arguments: object) -> httpx.Response:
        url = path if "://" in path else self.url + path
        return httpx.request(method, url, verify=self.trust, trust_env=False, **arguments)  # type: ignore[arg-type]


def rewritten(name: str, *changes: tuple[str, str]) -> str:
    """Return a file of deploy/ with other addresses. Every change has to find its place."""
    text = (ROOT / "deploy" / name).read_text()
    for pattern, replacement in changes:
        text, found = re.subn(pattern, replacement, text, flags=re.MULTILINE)
        assert found, f"{name} has no {pattern} any more"
    return text


def answers(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def proxy(platform: Platform) -> Iterator[Proxy]:
    web = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    web.daemon_threads = True
    Thread(target=web.serve_forever, daemon=True).start()
    with TemporaryDirectory(prefix="flowplatform-proxy-") as folder:
        one = Proxy(Path(folder), web.server_port, platform.port)
        process = one.start()
        yield one
        process.terminate()
        process.wait(15)
    web.shutdown()


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_tls_ends_here_and_web_is_told_who_called_and_how(proxy: Proxy) -> None:
    lies = {"X-Real-IP": "1.2.3.4", "X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "http", "X_Real_IP": "1.2.3.4"}
    response = proxy.ask("/api/flows", headers=lies)
    arrived = response.json()
    assert {name: arrived[name] for name in ("Host", "X-Real-IP", "X-Forwarded-For")} == {
        "Host": f"localhost:{proxy.tls}",
        "X-Real-IP": "127.0.0.1",
        "X-Forwarded-For": "127.0.0.1",
    }
    assert "1.2.3.4" not in arrived.values()
    # Django's to send: a second one of the proxy's would not agree with it for long.
    assert "Strict-Transport-Security" not in response.headers


def test_the_scheme_is_that_of_the_connection_whatever_a_client_says(proxy: Proxy) -> None:
    for claimed in ("https", "ftp"):
        assert proxy.ask("/", headers={"X-Forwarded-Proto": claimed}).json()["X-Forwarded-Proto"] == "https"


def test_plain_http_goes_on_by_https_with_method_path_and_query(proxy: Proxy) -> None:
    for method in ("GET", "POST"):
        answer = proxy.ask(f"http://127.0.0.1:{proxy.plain}/api/flows?page=2", method)
        assert (answer.status_code, answer.headers["Location"]) == (308, "https://127.0.0.1/api/flows?page=2")
    first_try = proxy.ask(f"http://127.0.0.1:{proxy.plain}/", headers={"Host": "localhost:8000"})
    assert first_try.headers["Location"] == "https://localhost:8443/"


def test_a_certificate_authority_is_answered_by_plain_http(proxy: Proxy) -> None:
    path = "/.well-known/acme-challenge/question"
    (proxy.folder / f"acme{path}").write_text("answer")
    assert proxy.ask(f"http://127.0.0.1:{proxy.plain}{path}").text == "answer"
    beside = proxy.ask(f"http://127.0.0.1:{proxy.plain}/.well-known/acme-challenge/../../api/flows")
    assert beside.status_code == 308


@pytest.mark.parametrize(("version", "is_spoken"), [("TLSv1_1", False), ("TLSv1_2", True), ("TLSv1_3", True)])
def test_old_versions_of_tls_are_not_spoken(proxy: Proxy, version: str, is_spoken: bool) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")  # or it would be ours that refuses
    with pytest.warns(DeprecationWarning, match="TLSv1_1") if version == "TLSv1_1" else nullcontext():
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    with closing(socket.create_connection(("127.0.0.1", proxy.tls), 5)) as plain:
        try:
            context.wrap_socket(plain).close()
            spoken = True
        except (ssl.SSLError, ConnectionResetError):
            spoken = False
    assert spoken is is_spoken


def test_sockets_go_to_live(proxy: Proxy) -> None:
    async def code() -> int | None:
        url = f"wss://localhost:{proxy.tls}/ws/flows/01900000-0000-7000-8000-000000000000"
        async with connect(url, ssl=proxy.trust, proxy=None) as socket_:
            await asyncio.wait_for(socket_.wait_closed(), 10)
            return socket_.close_code

    assert asyncio.run(code()) == 4401  # what the platform says without a credential


def test_the_file_for_load_balancers_is_understood_and_ends_no_tls(proxy: Proxy, tmp_path: Path) -> None:
    (tmp_path / "server.d").mkdir()
    (tmp_path / "server.d" / "server.conf").write_text((ROOT / "deploy" / "nginx-behind-tls.conf").read_text())
    text = (proxy.folder / "nginx.conf").read_text().replace(f"{proxy.folder}/server.d", f"{tmp_path}/server.d")
    (tmp_path / "nginx.conf").write_text(text.replace(f":{proxy.plain};", f":{free_port()};"))
    command = [str(NGINX), "-e", "stderr", "-T", "-c", str(tmp_path / "nginx.conf")]
    read = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "real_ip_header X-Forwarded-For;" in read
    assert "ssl" not in read


# --- Limits ---------------------------------------------------------------------------------------------------------


def test_what_is_too_large_is_refused_in_the_shape_of_the_api(proxy: Proxy) -> None:
    body = proxy.ask("/api/flows", "POST", content=b"x" * 3_000_000)
    assert (body.status_code, body.json()["error"]["code"]) == (413, "payload_too_large")
    chunks = (b"x" * 100_000 for _ in range(30))
    assert proxy.ask("/api/flows", "POST", content=chunks).status_code == 413
    headers = proxy.ask("/api/flows", headers={f"X-{number}": "x" * 10 for number in range(3_000)})
    assert (headers.status_code, headers.json()["error"]["code"]) == (400, "bad_request")


def test_an_address_has_so_many_connections_and_is_told_when_to_come_back(proxy: Proxy) -> None:
    with ThreadPoolExecutor(LIMIT + 1) as pool:
        crowd = list(pool.map(lambda _: proxy.ask("/api/slow"), range(LIMIT + 1)))
    refused = [answer for answer in crowd if answer.status_code != 200]
    assert [answer.status_code for answer in refused] == [429]
    assert refused[0].json()["error"]["code"] == "rate_limited"
    assert int(refused[0].headers["Retry-After"]) > 0
    assert proxy.ask("/api/flows").status_code == 200


@pytest.mark.parametrize(
    "beginning",
    [b"GET / HTTP/1.1\r\nHost: x\r\nX-", b"POST /api/flows HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"],
)
def test_whoever_stops_in_the_middle_is_cut_off(proxy: Proxy, beginning: bytes) -> None:
    with proxy.trust.wrap_socket(
        socket.create_connection(("127.0.0.1", proxy.tls), 5), server_hostname="localhost"
    ) as client:
        client.sendall(beginning)
        began = time.monotonic()
        while client.recv(1000):
            pass
        assert time.monotonic() - began < 5
