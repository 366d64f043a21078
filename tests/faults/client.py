"""An HTTP client that notes how every request ended, also when it got no answer."""

import http.client
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

HOST = "127.0.0.1"
IN_DOUBT = {"written": "unknown"}  # the details of a 503 that cannot promise that nothing was written
PATIENCE = 40.0  # seconds; more than anybody on the way has


@dataclass(frozen=True)
class Answer:
    """What came of a request. `status` is 0 if the answer was lost: it may have been done or not."""

    status: int
    seconds: float
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_lost(self) -> bool:
        """Whether nobody knows what became of the request: no answer, the proxy's, or one that says so itself."""
        return self.status in (0, 502, 504) or (self.status == 503 and self.body["error"]["details"] == IN_DOUBT)


class Client:
    """One connection at a time, kept while that is possible, to one of several ports that serve the same."""

    def __init__(self, ports: Sequence[int], token: str) -> None:
        self._ports = random.sample(list(ports), len(ports))
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._connection: http.client.HTTPConnection | None = None

    def __call__(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """Ask once. Does not repeat anything."""
        begun = time.monotonic()
        payload = None if body is None else json.dumps(body).encode()
        if self._connection is None:
            self._connection = http.client.HTTPConnection(HOST, self._ports[0], timeout=PATIENCE)
        try:
            self._connection.request(method, path, payload, {**self._headers, **headers})
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException):
            self.close()
            self._ports.append(self._ports.pop(0))  # without nginx the next port may be alive
            return Answer(0, time.monotonic() - begun)
        seconds = time.monotonic() - begun
        is_json = response.getheader("Content-Type", "").startswith("application/json")
        answer = json.loads(content) if content and is_json else content.decode()
        return Answer(response.status, seconds, answer, {name.lower(): text for name, text in response.getheaders()})

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
