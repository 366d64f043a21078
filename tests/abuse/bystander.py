"""Somebody who behaves, while others do not: ten requests a second, and on live a socket that stays open."""

import http.client
import threading
import time
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Self

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.abuse.attack import Scene
from tests.abuse.wire import HOST

_PAUSE = 0.1
PATIENCE = 10.0  # seconds; who waits longer has been harmed


@dataclass(frozen=True)
class Asked:
    """One request of a bystander."""

    begin: float
    end: float
    status: int | None  # None: no answer


class Bystander:
    """A client in a thread of its own."""

    def __init__(self, server: str, scene: Scene) -> None:
        self._scene = scene
        self._asked: list[Asked] = []
        self._ended = threading.Event()
        self._stack = ExitStack()
        self._socket = self._stack.enter_context(_watch(scene)) if server == "live" else None
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._stack.close()

    def during(self, begin: float) -> list[Asked]:
        """Return what was asked and answered since a moment."""
        return [asked for asked in self._asked if asked.end >= begin]

    def is_watching(self) -> bool:
        """Say whether the socket is still open, if there is one."""
        try:
            while self._socket is not None:
                self._socket.recv(timeout=0)
        except TimeoutError:
            return True
        except ConnectionClosed:
            return False
        return True

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(HOST, self._scene.port, timeout=PATIENCE)
        while not self._ended.wait(_PAUSE):
            begin, status = time.monotonic(), None
            try:
                connection.request("GET", "/api/flows?page_size=1", headers=_credential(self._scene))
                response = connection.getresponse()
                response.read()
                status = response.status
            except (OSError, http.client.HTTPException):
                connection.close()
            self._asked.append(Asked(begin, time.monotonic(), status))
            self.is_watching()  # what it is sent has to be read
        connection.close()


def _credential(scene: Scene) -> dict[str, str]:
    return {"Authorization": f"Bearer {scene.token}"}


def _watch(scene: Scene) -> AbstractContextManager[ClientConnection]:
    address = f"ws://{HOST}:{scene.port}/ws/flows/{scene.flow_id}"
    return connect(address, additional_headers=_credential(scene), proxy=None)
