"""An HTTP server that answers from a script, for what the real one says too seldom."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NOT_AT_ALL = 0  # a status code in a script: close the connection instead of answering


@dataclass
class Answer:
    """One scripted answer. Of `cut`, so many bytes of the body are sent, and then the connection ends."""

    status: int
    body: object = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


def refused(code: str, message: str = "No.", details: object = None) -> dict[str, object]:
    """Return the body of an error of the API."""
    return {"error": {"message": message, "code": code, "details": details}, "request_id": "01JX"}


class ScriptedServer(ThreadingHTTPServer):
    """Answers from a script, the last answer for ever; keeps what it was asked."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int = 0, script: Sequence[Answer] = ()) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.script: list[Answer] = [*script] or [Answer(200, [])]
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def keys(self) -> set[str | None]:
        return {headers.get("Idempotency-Key") for _, _, headers in self.asked}

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ScriptedServer

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        script = self.server.script
        answer = script.pop(0) if len(script) > 1 else script[0]
        if answer.status == NOT_AT_ALL:
            self.close_connection = True
            return
        body = answer.body.encode() if isinstance(answer.body, str) else json.dumps(answer.body).encode()
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[: answer.cut])
        self.close_connection = answer.cut is not None

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 (http.server's names)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def scripted_server(port: int = 0) -> Iterator[ScriptedServer]:
    server = ScriptedServer(port)
    try:
        yield server
    finally:
        server.stop()
