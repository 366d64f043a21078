"""How long an edit takes in a large graph: of the root, which makes every other task stale, beside an edit of a leaf.

    .venv/bin/python -m benchmarks.edit [--tasks 10000] [--data-dir DIR]

The tasks form a binary tree; each has reported an attempt with an output, which takes a while to set up.
"""

from typing import Any

from benchmarks.platform import Client, parser, running_platform


def reported(client: Client, tasks: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Set up an execution whose tasks have all reported; return the task executions of the root and of a leaf."""
    definition = [{"name": f"task-{i}", "depends_on": [f"task-{(i - 1) // 2}"] if i else []} for i in range(tasks)]
    flow = client.post("/api/flows", {"display_name": "Benchmark: edit", "definition": {"tasks": definition}})
    execution = client.post("/api/flow-executions", {"flow_id": flow["id"]})
    attempts = [
        client.post(
            "/api/task-executions",
            {
                "flow_execution_id": execution["id"],
                "task_name": f"task-{i}",
                "task_execution_idx": 0,
                "processing_status": "completed",
                "output": {"text": "x" * 200},
            },
        )
        for i in range(tasks)
    ]
    return attempts[0], attempts[-1]


def edit(client: Client, attempt: dict[str, Any], query: str = "") -> tuple[dict[str, Any], float]:
    """Send a task execution back as it is; return its new state and the server's milliseconds."""
    answer, _, server_ms = client.send("PUT", f"/api/task-executions{query}", attempt)
    return answer, server_ms


def main() -> None:
    """Measure and print the table."""
    options = parser(__doc__)
    options.add_argument("--tasks", type=int, default=10_000)
    given = options.parse_args()
    with running_platform(given.data_dir) as client:
        root, leaf = reported(client, given.tasks)
        _, leaf_ms = edit(client, leaf)
        root, first_ms = edit(client, root)
        root, again_ms = edit(client, root)
        _, execute_ms = edit(client, root, "?execute_flow=true")
    print(f"a graph of {given.tasks} tasks        server ms   leaf = 1")
    for label, ms in (
        ("a leaf", leaf_ms),
        ("the root: all become stale", first_ms),
        ("the root: all are stale", again_ms),
        ("the root: all are queued", execute_ms),
    ):
        print(f"{label:30}{ms:10.0f}{ms / leaf_ms:11.1f}")


if __name__ == "__main__":
    main()
