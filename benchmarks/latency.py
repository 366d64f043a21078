"""How long a status batch takes, one after the other over one connection: what the server says and what a client sees.

    .venv/bin/python -m benchmarks.latency [--batches 500] [--data-dir DIR]

Uses the running `make up` of the data directory, or starts the platform for as long as it measures.
"""

import argparse
import http.client
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

SIZES = (1, 10, 100)
TASKS = 100
WARM_UP = 50  # batches: statements get prepared, caches filled


class Client:
    """One kept connection that posts JSON and remembers how long the last answer took."""

    def __init__(self, url: str, token: str) -> None:
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.hostname or "127.0.0.1", address.port)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def post(self, path: str, body: object) -> tuple[Any, float, float]:
        """Return the answer, the client's time and the server's, both in milliseconds."""
        begin = time.perf_counter()
        self._connection.request("POST", path, json.dumps(body), self._headers)
        response = self._connection.getresponse()
        content = response.read()
        seconds = time.perf_counter() - begin
        if response.status not in (200, 201):
            raise SystemExit(f"{path} answered {response.status}: {content.decode()[:300]}")
        server = float((response.headers["Server-Timing"] or "=nan").partition("=")[2])
        return json.loads(content), seconds * 1e3, server


def measure(client: Client, path: str, size: int, batches: int) -> tuple[list[float], list[float]]:
    """Return the client's and the server's milliseconds of `batches` batches of `size` updates."""
    times = []
    for number in range(batches + WARM_UP):
        names = [f"task-{(number * 7 + index) % TASKS}" for index in range(size)]
        _, client_ms, server_ms = client.post(
            path, {"statuses": [{"task_name": name, "status": "running"} for name in names]}
        )
        times.append((client_ms, server_ms))
    kept = times[WARM_UP:]
    return [client_ms for client_ms, _ in kept], [server_ms for _, server_ms in kept]


def row(size: int, client_ms: list[float], server_ms: list[float]) -> str:
    """Return a row of the table."""

    def both(values: list[float]) -> str:
        cuts = statistics.quantiles(values, n=100)
        return f"{cuts[49]:7.2f} {cuts[98]:7.2f}"

    return f"{size:5}   {both(server_ms)}   {both(client_ms)}"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=500)
    parser.add_argument("--data-dir", type=Path)
    options = parser.parse_args()
    if options.data_dir:
        os.environ["FLOWPLATFORM_DATA_DIR"] = str(options.data_dir.absolute())
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "flowplatform.settings")

    import django  # after the environment is set

    django.setup()
    from flowplatform import env
    from flowplatform.replay.target import target

    with target(None, None, data_dir=env.DATA_DIR) as server:
        client = Client(server.url, server.token)
        tasks = [{"name": f"task-{index}"} for index in range(TASKS)]
        flow, *_ = client.post("/api/flows", {"display_name": "Benchmark", "definition": {"tasks": tasks}})
        execution, *_ = client.post("/api/flow-executions", {"flow_id": flow["id"]})
        path = f"/api/flow-executions/{execution['id']}/task-status"
        print("batch    server p50    p99   client p50    p99   (ms)")
        for size in SIZES:
            print(row(size, *measure(client, path, size, options.batches)), flush=True)


if __name__ == "__main__":
    main()
