"""`python deploy/healthcheck.py --port PORT`: exit 0 if the server of this container answers, 1 with the reason if not.

It asks whether the process serves, not whether the database does: a database that is away is not cured by a restart, so
it does not make the server unhealthy.
"""

import argparse
import http.client
import sys

TIMEOUT_SECONDS = 4


def main() -> int:
    """Ask once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    connection = http.client.HTTPConnection("127.0.0.1", arguments.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/health/live")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {error!r}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if status != http.client.OK:
        print(f"answered {status} instead of 200", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
