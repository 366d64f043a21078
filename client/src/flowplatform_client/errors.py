"""What can go wrong, as classes. The text of each is one sentence, and none of them ever holds the token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

WRITTEN_UNKNOWN = {"written": "unknown"}  # the details of a 503 that cannot promise that nothing was written

Details = Sequence[Any] | Mapping[str, Any] | None


class FlowPlatformError(Exception):
    """The base of every error of this package."""


class ConfigurationError(FlowPlatformError):
    """An address, a token or a variable of the environment cannot be one. Nothing was sent."""


class ConnectionFailedError(FlowPlatformError):
    """No usable answer, after as many attempts as the call was allowed.

    `may_have_arrived` says whether the server may have done what was asked. To ask again without doing it twice, give
    both calls the same `idempotency_key`.
    """

    def __init__(self, message: str, *, may_have_arrived: bool = False) -> None:
        super().__init__(message)
        self.may_have_arrived = may_have_arrived


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What the server said instead of doing what was asked.

    `code` and `message` are those of the API's errors, `details` what comes with them: for 422 the list of places,
    each with `loc`, `msg` and `type`. `retry_after` is in seconds, `None` if the server named no time. `was_sent` is
    false where the server's answer was known before.
    """

    method: str
    url: str
    status: int
    code: str
    message: str
    details: Details = None
    request_id: str | None = None
    retry_after: float | None = None
    was_sent: bool = True

    def __str__(self) -> str:
        hint = f" ({self.details})" if self.details and self.status != 422 else ""
        known_by = f" [request {self.request_id}]" if self.request_id else ""
        answered = f"was answered {self.status}" if self.was_sent else "was not sent"
        return f"{self.method} {self.url} {answered}: {self.message}{hint}{known_by}"


class ApiError(FlowPlatformError):
    """The server refused a request. The subclasses stand for the statuses that callers tell apart."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)  # as the only argument, so that the error survives pickling
        self.refusal = refusal

    def __str__(self) -> str:
        return str(self.refusal)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.refusal.status

    @property
    def code(self) -> str:
        """The API's code, such as `conflict`; empty if the answer was none of Flow Platform."""
        return self.refusal.code

    @property
    def message(self) -> str:
        """What the server said."""
        return self.refusal.message

    @property
    def details(self) -> Details:
        """What the server said besides; for 422 the list of places."""
        return self.refusal.details

    @property
    def request_id(self) -> str | None:
        """What the server's logs know the request by."""
        return self.refusal.request_id

    @property
    def retry_after(self) -> float | None:
        """After how many seconds the server wants to be asked again, if it said so."""
        return self.refusal.retry_after

    @property
    def is_about_credentials(self) -> bool:
        """Whether the token is the reason, so that no other request would fare better."""
        return isinstance(self, UnauthenticatedError | ForbiddenError)


class BadRequestError(ApiError):
    """400: the request cannot be understood, or names a task that the flow's version does not define."""


class InvalidDefinitionError(BadRequestError):
    """400 `invalid_definition`: names that are not unique, unknown dependencies, or a circle of them."""


class UnauthenticatedError(ApiError):
    """401: the token is missing, wrong, expired or revoked."""


class ForbiddenError(ApiError):
    """403: the token is valid and may not do this."""


class NotFoundError(ApiError):
    """404: there is no such thing, or it is deleted, or it is somebody else's."""


class ConflictError(ApiError):
    """409: somebody else was faster, or the state of the thing forbids it."""


class PayloadTooLargeError(ApiError):
    """413: the body is over 1 MiB. It is not even sent."""


class UnprocessableError(ApiError):
    """422: something does not fit the schema; `details` lists where."""


class RateLimitedError(ApiError):
    """429: too many requests; nothing was done. `retry_after` says when to come back."""


class ServerError(ApiError):
    """5xx: a bug of the server, or something between it and us."""


class UnavailableError(ServerError):
    """503: the server cannot do it now."""

    @property
    def may_have_been_written(self) -> bool:
        """Whether the server does not know what became of the last attempt at the write."""
        return self.details == WRITTEN_UNKNOWN


_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: BadRequestError,
    401: UnauthenticatedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    413: PayloadTooLargeError,
    422: UnprocessableError,
    429: RateLimitedError,
    503: UnavailableError,
}


def error_of(refusal: Refusal) -> ApiError:
    """Return the error for a refusal, of the class that its status and code have."""
    if refusal.code == "invalid_definition":
        return InvalidDefinitionError(refusal)
    return _BY_STATUS.get(refusal.status, ServerError if refusal.status >= 500 else ApiError)(refusal)
