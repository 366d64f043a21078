"""How long a status batch takes, one after the other over one connection: what the server says and what a client sees.

    .venv/bin/python -m benchmarks.latency [--batches 500] [--data-dir DIR]

Uses the running `make up` of the data directory, or starts the platform for as long as it measures.
"""

import statistics

from benchmarks.platform import Client, parser, running_platform

SIZES = (1, 10, 100)
TASKS = 100
WARM_UP = 50  # batches: statements get prepared, caches filled


def measure(client: Client, path: str, size: int, batches: int) -> tuple[list[float], list[float]]:
    """Return the client's and the server's milliseconds of `batches` batches of `size` updates."""
    times = []
    for number in range(batches + WARM_UP):
        names = [f"task-{(number * 7 + index) % TASKS}" for index in range(size)]
        _, client_ms, server_ms = client.send(
            "POST", path, {"statuses": [{"task_name": name, "status": "running"} for name in names]}
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
    options = parser(__doc__)
    options.add_argument("--batches", type=int, default=500)
    given = options.parse_args()
    with running_platform(given.data_dir) as client:
        tasks = [{"name": f"task-{index}"} for index in range(TASKS)]
        flow = client.post("/api/flows", {"display_name": "Benchmark", "definition": {"tasks": tasks}})
        execution = client.post("/api/flow-executions", {"flow_id": flow["id"]})
        path = f"/api/flow-executions/{execution['id']}/task-status"
        print("batch    server p50    p99   client p50    p99   (ms)")
        for size in SIZES:
            print(row(size, *measure(client, path, size, given.batches)), flush=True)


if __name__ == "__main__":
    main()
