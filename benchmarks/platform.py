"""The platform that a benchmark measures, and a client that remembers how long its answers took."""

import argparse
import http.client
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Client:
    """One kept connection that sends JSON."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def send(self, method: str, path: str, body: object = None) -> tuple[Any, float, float]:
        """Return the answer, the client's time and the server's, both in milliseconds."""
        begin = time.perf_counter()
        self._connection.request(method, path, None if body is None else json.dumps(body), self._headers)
        response = self._connection.getresponse()
        content = response.read()
        seconds = time.perf_counter() - begin
        if not 200 <= response.status < 300:
            raise SystemExit(f"{method} {path} answered {response.status}: {content.decode()[:300]}")
        server = float((response.headers["Server-Timing"] or "=nan").partition("=")[2])
        return json.loads(content) if content else None, seconds * 1e3, server

    def post(self, path: str, body: object) -> Any:
        """Return the answer to a POST."""
        return self.send("POST", path, body)[0]


def parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options that every benchmark has."""
    options = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data-dir", type=Path, help="of the platform to measure (default: as `make up`)")
    return options


@contextmanager
def running_platform(data_dir: Path | None) -> Iterator[Client]:
    """Connect to the `make up` of the data directory, or start the platform for as long as it is measured."""
    if data_dir:
        os.environ["FLOWPLATFORM_DATA_DIR"] = str(data_dir.absolute())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")

    import django  # after the environment is set

    django.setup()
    from flowplatform import env
    from flowplatform.replay.target import target

    with target(None, None, data_dir=env.DATA_DIR) as server:
        yield Client(server.url, server.token)
