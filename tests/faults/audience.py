"""Sockets that do what the contract asks of a client: they come back with `since`, and refetch on a reset."""

import asyncio
import json
import random
import threading
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from tests.faults.client import HOST, Client

_PAUSES = (0.1, 0.5)  # seconds before coming back: between these, by chance
_FOR_GOOD = (4401, 4404, 4429)  # a client that is told one of these does not come back
_OPENING = 20.0  # seconds until a connection has its hello

Event = Mapping[str, Any]


@lru_cache(256)
def _parsed(text: str) -> Mapping[str, Any]:
    """Parse a frame; hundreds of sockets are sent the same ones."""
    frame: Mapping[str, Any] = json.loads(text)
    return frame


class Watcher:
    """One socket, opened again and again, and all events that it knows of its flow."""

    def __init__(self, ports: Sequence[int], flow_id: str, token: str) -> None:
        self.flow_id = flow_id
        self.events: list[Event] = []
        self.position = 0
        self.opened = 0
        self.resets = 0
        self.closes: Counter[int] = Counter()
        self.problems: list[str] = []
        self._ports = ports
        self._token = token
        self._epoch = ""

    async def run(self) -> None:
        """Watch until cancelled, or told to stay away."""
        number = random.randrange(len(self._ports))
        while not any(self.closes[code] for code in _FOR_GOOD):
            number += 1
            with suppress(OSError, InvalidHandshake, InvalidMessage, TimeoutError, EOFError):
                await self._watch(self._ports[number % len(self._ports)])
            await asyncio.sleep(random.uniform(*_PAUSES))
        self.problems.append(f"told to stay away: {dict(self.closes)}")

    async def _watch(self, port: int) -> None:
        query = {"since": self.position, **({"epoch": self._epoch} if self._epoch else {})}
        url = f"ws://{HOST}:{port}/ws/flows/{self.flow_id}?{urlencode(query)}"
        opening = connect(
            url,
            additional_headers={"Authorization": f"Bearer {self._token}"},
            proxy=None,
            compression=None,
            max_size=None,
            open_timeout=_OPENING,
        )
        async with opening as socket:
            self.opened += 1
            try:
                async for text in socket:
                    if not await self._take(_parsed(str(text))):
                        return  # something is missing: come back for it
            except ConnectionClosed:
                pass
            self.closes[socket.close_code or 0] += 1

    async def _take(self, frame: Mapping[str, Any]) -> bool:
        """Take a frame in; `False` if it shows that something was missed."""
        match frame["type"]:
            case "hello":
                self._epoch = self._epoch or frame["epoch"]
            case "events":
                return self._take_events(frame["events"])
            case "reset":
                self.resets += 1
                self._epoch = frame["epoch"]
                await asyncio.to_thread(self._refetch, frame["offset"])
            case "heartbeat":
                return bool(frame["offset"] <= self.position)
        return True

    def _take_events(self, events: Sequence[Event]) -> bool:
        for event in events:
            if event["offset"] > self.position + 1:
                return False
            if event["offset"] <= self.position:
                self.problems.append(f"offset {event['offset']} came again after {self.position}")
                continue
            self.events.append(event)
            self.position = event["offset"]
        return True

    def _refetch(self, offset: int) -> None:
        self.events = [
            event for event in all_events(self._ports, self._token, self.flow_id) if event["offset"] <= offset
        ]
        self.position = offset


class Audience:
    """All sockets of a trial, on an event loop of their own."""

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="audience", daemon=True)
        self._thread.start()
        self._tasks: list[asyncio.Task[None]] = []

    def watch(self, ports: Sequence[int], flow_id: str, tokens: Sequence[str], number: int) -> list[Watcher]:
        """Open sockets on a flow, shared among the tokens."""
        watchers = [Watcher(ports, flow_id, tokens[index % len(tokens)]) for index in range(number)]
        self.watchers += watchers
        self.run(self._begin(watchers))
        return watchers

    def run(self, coroutine: Coroutine[Any, Any, Any], seconds: float = 60) -> Any:
        """Run something on the sockets' event loop and return what it returns."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(seconds)

    def stop(self) -> None:
        """Close every socket and the loop."""
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _begin(self, watchers: Sequence[Watcher]) -> None:
        self._tasks += [asyncio.create_task(watcher.run()) for watcher in watchers]

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def all_events(ports: Sequence[int], token: str, flow_id: str) -> list[Event]:
    """Return every event of a flow over HTTP, as `GET /api/flows/{id}/events` tells them."""
    client = Client(ports, token)
    events: list[Event] = []
    while True:
        since = events[-1]["offset"] if events else 0
        answer = client("GET", f"/api/flows/{flow_id}/events?since={since}&limit=500")
        assert answer.status == 200, answer
        events += answer.body["events"]
        if not answer.body["events"] or events[-1]["offset"] >= answer.body["offset"]:
            client.close()
            return events
