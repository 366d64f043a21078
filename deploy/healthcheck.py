"""`python deploy/healthcheck.py --port PORT`: exit 0 if the server of this container answers, 1 with the reason if not.

It asks without credentials, so that the check costs no database query. 401 is the answer of a healthy server; a
database that is away is not cured by a restart, so it does not make the server unhealthy.
"""

import argparse
import http.client
import os
import sys

TIMEOUT_SECONDS = 4


def main() -> int:
    """Ask once."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    connection = http.client.HTTPConnection("127.0.0.1", arguments.port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/api/flows", headers={"Host": _host()})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer: {error!r}", file=sys.stderr)
        return 1
    finally:
        connection.close()
    if status != http.client.UNAUTHORIZED:
        print(f"answered {status} instead of 401", file=sys.stderr)
        return 1
    return 0


def _host() -> str:
    """Return a name that the platform answers to: it refuses requests for any other."""
    first = os.environ.get("ALLOWED_HOSTS", "").partition(",")[0].strip()
    return first.lstrip(".") if first not in ("", "*") else "127.0.0.1"


if __name__ == "__main__":
    sys.exit(main())
