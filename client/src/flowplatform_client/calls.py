"""Requests and answers as values: what is asked, how it may be repeated, and how its answer is read. No IO here."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any, Generic, TypeVar
from urllib.parse import quote
from uuid import UUID, uuid4

from flowplatform_client.errors import ApiError, Refusal, error_of

T = TypeVar("T")
U = TypeVar("U")

Id = str | UUID

MAX_BODY_BYTES = 1024 * 1024  # the contract's


@dataclass(frozen=True)
class Answer:
    """An answer of a server. The names of the headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def is_success(self) -> bool:
        """Whether what was asked is done."""
        return 200 <= self.status < 300


@dataclass(frozen=True)
class Lost:
    """No answer. `was_sent` is false only if the server cannot have heard of the request."""

    reason: str
    was_sent: bool


Outcome = Answer | Lost


def new_key() -> str:
    """Return a new Idempotency-Key."""
    return str(uuid4())


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    """One request of the API. `read` makes the result from a good answer.

    Every one may be sent again: it changes nothing, or comes to the same when it is done twice, or is done once for its
    `key`, the Idempotency-Key of all its attempts.
    """

    method: str
    path: str
    read: Callable[[Answer], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    key: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """The headers that belong to this request, beside those of every request."""
        headers = {} if self.key is None else {"Idempotency-Key": self.key}
        return headers if self.body is None else {**headers, "Content-Type": "application/json"}

    @cached_property
    def content(self) -> bytes | None:
        """The body as JSON. Raises `TypeError` or `ValueError` for what JSON does not have."""
        if self.body is None:
            return None
        return json.dumps(self.body, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()

    @property
    def parameters(self) -> list[tuple[str, str]]:
        """The query; what is `None` is left out, and of several values each is named."""
        named = [(name, value) for name, value in self.query.items() if value is not None]
        each = [(name, one) for name, value in named for one in (value if isinstance(value, list) else [value])]
        return [(name, _text(value)) for name, value in each]

    def check_size(self, url: str) -> None:
        """Refuse a body that the server would not read: it would close while we write, and its answer may get lost."""
        size = len(self.content or b"")
        if size > MAX_BODY_BYTES:
            raise error_of(
                Refusal(
                    method=self.method,
                    url=url,
                    status=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    code="payload_too_large",
                    message=f"the body has {size:,} bytes, and may have {MAX_BODY_BYTES:,}",
                    was_sent=False,
                )
            )

    def result(self, answer: Answer, url: str) -> T:
        """Return what a good answer says; raise `ApiError` for every other one, also for one of another server."""
        if not answer.is_success:
            raise refusal(answer, self.method, url)
        try:
            return self.read(answer)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise refusal(answer, self.method, url) from None

    def then(self, change: Callable[[T], U]) -> "Call[U]":
        """Return the same request with its result changed."""
        return Call(
            method=self.method,
            path=self.path,
            read=lambda answer: change(self.read(answer)),
            query=self.query,
            body=self.body,
            key=self.key,
        )


def path(*parts: Id) -> str:
    """Return an address below /api. No part can lead to another place than its own."""
    return "/api/" + "/".join(quote(str(part), safe="") for part in parts)


def refusal(answer: Answer, method: str, url: str) -> ApiError:
    """Return the error that an answer stands for."""
    code, message, details, request_id = _explained(answer)
    return error_of(
        Refusal(
            method=method,
            url=url,
            status=answer.status,
            code=code,
            message=message,
            details=details,
            request_id=request_id,
            retry_after=retry_after(answer),
        )
    )


def retry_after(answer: Answer) -> float | None:
    """Return the Retry-After header in seconds, whether it names seconds or a date; `None` without a usable one."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return None
    date = date if date.tzinfo else date.replace(tzinfo=timezone.utc)
    return max(0.0, (date - datetime.now(timezone.utc)).total_seconds())


def _explained(answer: Answer) -> tuple[str, str, Any, str | None]:
    """Return code, message, details and request id of an answer: the API's envelope, its 422, or something foreign."""
    header = answer.headers.get("x-request-id")
    match _json_or_none(answer):
        case {"error": {"message": str(message), "code": str(code), "details": details}, "request_id": request_id}:
            return code, message, details, str(request_id or header)
        case {"detail": [{"loc": [*place], "msg": str(message)}, *_] as places}:
            return "unprocessable", f"{'.'.join(map(str, place))}: {message}", places, header
    kind = answer.headers.get("content-type", "no content type")
    return "", f"not an answer of Flow Platform ({kind})", None, None


def _json_or_none(answer: Answer) -> Any:
    try:
        return json.loads(answer.content)
    except ValueError:
        return None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, datetime) else str(value)
