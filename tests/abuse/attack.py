"""What a row of the corpus is, and the world that it is aimed at."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.abuse.wire import Chunks, exchange, has_answer, outcome_of

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Scene:
    """A running server, and rows of the database that a request may name."""

    port: int
    token: str
    execution_id: str
    flow_id: str
    whole: bool  # as large as the names say; a fraction of it otherwise

    @property
    def status_path(self) -> str:
        return f"/api/flow-executions/{self.execution_id}/task-status"

    @property
    def large(self) -> int:
        """The size of a body that is far too large."""
        return (200 if self.whole else 8) * MEGABYTE

    @property
    def crowd(self) -> int:
        """How many slow clients come at once: more than a process has threads, by far."""
        return 64 if self.whole else 16


@dataclass(frozen=True)
class Attack:
    """One row: what is sent, what has to come back, and who says so."""

    name: str
    sends: Callable[[Scene], Chunks]
    answer: str  # of the web role, in the words of `outcome_of`; with alternatives between bars
    why: str
    live: str = ""  # of the live role, where it differs
    answers: int = 1  # that are waited for
    linger: float = 0.0  # seconds in which nothing more may come
    half_close: bool = False
    slow: tuple[str, ...] = ()  # servers that answer when their patience is over, some ten seconds later
    crowd: bool = False  # many clients do it at the same time
    seconds: float = 30.0  # to wait for an answer
    servers: tuple[str, ...] = ("web", "live")

    def expected(self, server: str) -> list[str]:
        """Return the outcomes that are right."""
        return (self.live if server == "live" and self.live else self.answer).split(" | ")

    def launch(self, scene: Scene) -> tuple[str, int]:
        """Do it once; return the outcome and how many bytes the server took."""
        received = exchange(
            scene.port,
            self.sends(scene),
            seconds=self.seconds,
            is_done=lambda data: has_answer(data, self.answers),
            linger=self.linger,
            half_close=self.half_close,
        )
        return outcome_of(received), received.sent


def head(method: str, path: str, *lines: str, host: str = "Host: 127.0.0.1") -> bytes:
    """Return the head of a request with these header lines."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", *([host] if host else []), *lines, "", ""]).encode("latin1")


def bearer(scene: Scene) -> str:
    return f"Authorization: Bearer {scene.token}"


JSON = "Content-Type: application/json"
GOOD_BODY = b'{"statuses":[{"task_name":"extract","status":"running"}]}'


def post(scene: Scene, *lines: str, path: str = "", content_type: str = JSON) -> bytes:
    """Return the head of a status report, whose length the header lines have to say."""
    typed = [content_type] if content_type else []
    return head("POST", path or scene.status_path, bearer(scene), *typed, *lines)


def good_request(scene: Scene) -> bytes:
    """Return a status report that is right, on a connection that ends with it."""
    return post(scene, f"Content-Length: {len(GOOD_BODY)}", "Connection: close") + GOOD_BODY


def sized(scene: Scene, body: bytes, *lines: str, **options: Any) -> list[bytes]:
    """Return a report with a body and its true length."""
    return [post(scene, f"Content-Length: {len(body)}", *lines, **options), body]
