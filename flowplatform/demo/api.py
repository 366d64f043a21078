"""The HTTP client that the demo worker and `manage.py replay` share: endpoints, retries, errors as sentences."""

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, TypedDict
from urllib.parse import urlsplit
from uuid import uuid4

import httpx

REQUEST_SECONDS = 10.0
RETRY_BASE_SECONDS = 0.1
RETRY_CAP_SECONDS = 5.0
RETRY_AFTER_CAP_SECONDS = 60.0
SERVER_ERROR_ATTEMPTS = 5  # a 500 is a bug: trying again for ever would not mend it
FLOWS_PER_PAGE = 20  # each comes with its definition, of up to 10,000 tasks
ROWS_PER_PAGE = 1000
BATCH_SIZE = 100  # the contract's limit

_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
_LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


class StatusUpdate(NamedTuple):
    """One status of one task, as a worker reports it."""

    task_name: str
    status: str


class Flow(TypedDict):
    """What we use of the API's flow object."""

    id: str
    display_name: str
    definition: dict[str, Any]


class Execution(TypedDict):
    """What we use of the API's flow execution object."""

    id: str
    status: str
    input: dict[str, Any]


class ApiError(Exception):
    """The server refused a request. The text is one sentence with the server's message and the request id."""

    def __init__(self, response: httpx.Response) -> None:
        request = response.request
        super().__init__(f"{request.method} {request.url} was answered {response.status_code}: {_message(response)}")
        self.status = response.status_code

    @property
    def is_about_credentials(self) -> bool:
        """Whether the token is the reason, so that no other request would fare better."""
        return self.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


class ConnectionSettingError(Exception):
    """An address or a token cannot be one. The text is one sentence."""


class UnreachableError(Exception):
    """No usable answer in time, or one that must not be asked for twice. The text is one sentence."""


class _RetryableError(Exception):
    """An attempt failed in a way that may pass. `retry_after` is what the server asked for, in seconds."""

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class FlowApi:
    """The endpoints of the contract that a worker needs. Safe to share between threads.

    A failed request is repeated with full-jitter backoff (https://aws.amazon.com/builders-library/, "Timeouts,
    retries and backoff with jitter") until `patience_seconds` are over, if repeating it cannot do harm.
    `on_wait` is told why, in one sentence, the first time a request has to wait.

    Raises `ConnectionSettingError` for an address or a token that cannot be one. Every method raises `ApiError` and
    `UnreachableError`.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        patience_seconds: float = math.inf,
        connections: int = 2,
        on_wait: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.url = _checked_url(url)
        self._patience_seconds = patience_seconds
        self._on_wait = on_wait
        self._client = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {_checked_token(token)}"},
            timeout=REQUEST_SECONDS,
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            # A proxy of the environment must not be asked for a server on this machine.
            trust_env=httpx.URL(self.url).host not in _LOCAL_HOSTS,
        )

    def close(self) -> None:
        """Close the kept connections."""
        self._client.close()

    def flow_page(self, flow_id: str) -> str:
        """Return the address where a person watches the flow."""
        return f"{self.url}/flows/{flow_id}/"

    def ensure_flow(self, display_name: str, description: str, definition: Mapping[str, Any]) -> Flow:
        """Return the flow of this name and definition: the existing one, given a new version if it differs."""
        named = [flow for flow in self._flows() if flow["display_name"] == display_name]
        for flow in named:
            if _comparable(flow["definition"]) == _comparable(definition):
                return flow
        if named:
            path = f"/api/flows/{named[0]['id']}/definition"
            updated: Flow = self._request("PUT", path, body={"definition": definition})
            return updated
        body = {"display_name": display_name, "description": description, "definition": definition}
        created: Flow = self._request("POST", "/api/flows", body=body)
        return created

    def create_execution(self, flow_id: str, execution_input: Mapping[str, Any]) -> Execution:
        """Queue an execution of the flow's newest version."""
        body = {"flow_id": flow_id, "input": execution_input}
        created: Execution = self._request("POST", "/api/flow-executions", body=body)
        return created

    def execution(self, execution_id: str) -> Execution:
        """Return one execution."""
        found: Execution = self._request("GET", f"/api/flow-executions/{execution_id}")
        return found

    def oldest_queued(self, flow_id: str) -> Execution | None:
        """Return the execution of the flow that has waited longest, if any waits."""
        query = {"flow_id": flow_id, "status": "queued", "sort_field": "created_at", "sort_direction": "asc"}
        queued: list[Execution] = self._request("GET", "/api/flow-executions", query={**query, "page_size": 1})
        return queued[0] if queued else None

    def set_execution_status(self, execution_id: str, status: str) -> None:
        """Set the execution's own status."""
        self._request("PATCH", f"/api/flow-executions/{execution_id}/status", query={"status": status})

    def report(self, execution_id: str, updates: Sequence[StatusUpdate]) -> None:
        """Append up to 100 task statuses, in order. A repeated attempt writes nothing twice."""
        self._request(
            "POST",
            f"/api/flow-executions/{execution_id}/task-status",
            body={"statuses": [update._asdict() for update in updates]},
            idempotency_key=str(uuid4()),
        )

    def task_states(self, execution_id: str) -> dict[str, str]:
        """Return the derived state of every task that has one: name to status."""
        outputs = self._rows("/api/task-outputs", "task_outputs", {"flow_execution_id": execution_id})
        return {output["task_name"]: output["processing_status"] for output in outputs}

    def status_history(self, execution_id: str) -> list[StatusUpdate]:
        """Return every status ever reported for the execution, oldest first."""
        newest_first = self._rows(f"/api/flow-executions/{execution_id}/task-status", "statuses", {})
        return [StatusUpdate(row["task_name"], row["status"]) for row in newest_first][::-1]

    def _flows(self) -> Iterator[Flow]:
        for page in itertools.count(1):
            flows: list[Flow] = self._request("GET", "/api/flows", query={"page": page, "page_size": FLOWS_PER_PAGE})
            yield from flows
            if len(flows) < FLOWS_PER_PAGE:
                return

    def _rows(self, path: str, key: str, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the rows of a list that is paged by cursor."""
        cursor: dict[str, str] = {}
        while True:
            page = self._request("GET", path, query={**query, **cursor, "limit": ROWS_PER_PAGE})
            yield from page[key]
            if page["next_cursor"] is None:
                return
            cursor = {"cursor": page["next_cursor"]}

    def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Any:
        """Return the decoded answer, after as many attempts as patience allows."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        request = self._client.build_request(method, path, params=query, json=body, headers=headers)
        give_up_at = time.monotonic() + self._patience_seconds
        attempt = 0
        while True:
            try:
                return self._attempt(request, attempt)
            except _RetryableError as problem:
                pause = _pause_seconds(attempt, problem.retry_after)
                if time.monotonic() + pause > give_up_at:
                    raise UnreachableError(f"{method} {request.url} got no answer: {problem}") from problem
                if attempt == 0:
                    self._on_wait(f"waiting for the server at {self.url}: {problem}")
                time.sleep(pause)
                attempt += 1

    def _attempt(self, request: httpx.Request, attempt: int) -> Any:
        """Send once. A POST without an idempotency key is only tried again if the server did not act on it."""
        repeatable = request.method != "POST" or "Idempotency-Key" in request.headers
        try:
            response = self._client.send(request)
        except httpx.RequestError as error:
            reason = str(error) or type(error).__name__
            if repeatable or isinstance(error, _NEVER_SENT):
                raise _RetryableError(reason) from error
            raise UnreachableError(f"{request.method} {request.url} may or may not have arrived: {reason}") from error
        if _may_pass(response, repeatable, attempt):
            raise _RetryableError(f"{response.status_code}, {_message(response)}", _retry_after(response))
        return _decoded(response)


def _checked_url(url: str) -> str:
    """Return the server's address without a trailing slash; raise `ConnectionSettingError` if it is none."""
    try:
        usable = urlsplit(url).scheme in ("http", "https") and bool(httpx.URL(url).host)
    except (ValueError, httpx.InvalidURL):
        usable = False
    if not usable:
        raise ConnectionSettingError(f"{url!r} is not the address of a server: give one such as http://127.0.0.1:8000")
    return url.rstrip("/")


def _checked_token(token: str) -> str:
    """Return the token; raise an error that does not repeat it if it cannot stand in a header."""
    if not token or not token.isascii() or not token.isprintable():
        raise ConnectionSettingError("the service token holds characters that no token has")
    return token


def _may_pass(response: httpx.Response, repeatable: bool, attempt: int) -> bool:
    """Say whether the same request may be answered differently in a moment."""
    match response.status_code:
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            return True  # the contract: nothing was written
        case HTTPStatus.CONFLICT:
            return "Idempotency-Key" in response.request.headers  # our earlier attempt is still running
        case HTTPStatus.INTERNAL_SERVER_ERROR:
            return repeatable and attempt + 1 < SERVER_ERROR_ATTEMPTS
        case HTTPStatus.BAD_GATEWAY | HTTPStatus.GATEWAY_TIMEOUT:
            return repeatable
    return False


def _pause_seconds(attempt: int, retry_after: float) -> float:
    """Return how long to wait before the next attempt: never less than asked, and not with everybody else."""
    ceiling = min(RETRY_CAP_SECONDS, RETRY_BASE_SECONDS * 2 ** min(attempt, 16))
    return retry_after + random.uniform(0, ceiling)


def _retry_after(response: httpx.Response) -> float:
    """Return the Retry-After header in seconds, 0 if there is none that we understand."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), RETRY_AFTER_CAP_SECONDS) if text.isascii() and text.isdigit() else 0.0


def _decoded(response: httpx.Response) -> Any:
    """Return the JSON of a good answer, `None` for an empty one; raise `ApiError` for every other answer."""
    if not response.is_success:
        raise ApiError(response)
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        raise ApiError(response) from None


def _message(response: httpx.Response) -> str:
    """Return what an answer says about itself, in one line: the contract's envelope, or its 422 form."""
    match _json_or_none(response):
        case {"error": {"message": str(message), "details": details}, "request_id": request_id}:
            hint = f" ({details})" if details else ""
            return f"{message}{hint} [request {request_id}]"
        case {"detail": [{"loc": [*place], "msg": str(message)}, *_]}:
            request_id = response.headers.get("X-Request-ID")
            return f"{'.'.join(map(str, place))}: {message} [request {request_id}]"
    kind = response.headers.get("Content-Type", "no content type")
    return f"not an answer of Flow Platform ({kind})"


def _json_or_none(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None


def _comparable(definition: Mapping[str, Any]) -> list[tuple[str, str, frozenset[str]]]:
    """Reduce a definition to what makes it another one; a server may add defaults to what it was given."""
    tasks = definition.get("tasks", [])
    return [(task["name"], task.get("title") or "", frozenset(task.get("depends_on") or ())) for task in tasks]
