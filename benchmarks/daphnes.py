"""Several Daphne processes that accept from one socket: python -m benchmarks.daphnes PORT PROCESSES."""

import signal
import socket
import subprocess
import sys


def main() -> None:
    """Run them until SIGTERM, or until the first of them ends."""
    port, processes = map(int, sys.argv[1:])
    with socket.create_server(("127.0.0.1", port), backlog=1024) as listening:
        number = listening.fileno()
        command = [sys.executable, "-m", "flowplatform.live", "--fd", str(number)]
        started = [subprocess.Popen(command, pass_fds=[number]) for _ in range(processes)]

    def stop(*_: object) -> None:
        for process in started:
            process.terminate()

    signal.signal(signal.SIGTERM, stop)
    started[0].wait()
    stop()
    for process in started:
        process.wait()


if __name__ == "__main__":
    main()
