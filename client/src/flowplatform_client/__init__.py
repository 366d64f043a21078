"""The Python client of Flow Platform: report from workers, read, and watch flows as they run."""

from flowplatform_client.calls import new_key
from flowplatform_client.client import AsyncFlowPlatform, FlowPlatform
from flowplatform_client.endpoints import UNSET
from flowplatform_client.errors import (
    ApiError,
    BadRequestError,
    ConfigurationError,
    ConflictError,
    ConnectionFailedError,
    FlowPlatformError,
    ForbiddenError,
    InvalidDefinitionError,
    NotFoundError,
    PayloadTooLargeError,
    RateLimitedError,
    Refusal,
    ServerError,
    UnauthenticatedError,
    UnavailableError,
    UnprocessableError,
)
from flowplatform_client.handles import ExecutionHandle
from flowplatform_client.models import (
    Event,
    EventPage,
    Execution,
    ExpectedTags,
    Flow,
    Reset,
    StatusUpdate,
    TagChange,
    TagOutcome,
    TaskExecution,
    TaskOutput,
    TaskStatus,
    TaskTag,
)
from flowplatform_client.pages import AsyncPages, Pages
from flowplatform_client.retries import RetryPolicy
from flowplatform_client.version import __version__
from flowplatform_client.watching import AsyncWatch, Watch

__all__ = [
    "UNSET",
    "ApiError",
    "AsyncFlowPlatform",
    "AsyncPages",
    "AsyncWatch",
    "BadRequestError",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "Event",
    "EventPage",
    "Execution",
    "ExecutionHandle",
    "ExpectedTags",
    "Flow",
    "FlowPlatform",
    "FlowPlatformError",
    "ForbiddenError",
    "InvalidDefinitionError",
    "NotFoundError",
    "Pages",
    "PayloadTooLargeError",
    "RateLimitedError",
    "Refusal",
    "Reset",
    "RetryPolicy",
    "ServerError",
    "StatusUpdate",
    "TagChange",
    "TagOutcome",
    "TaskExecution",
    "TaskOutput",
    "TaskStatus",
    "TaskTag",
    "UnauthenticatedError",
    "UnavailableError",
    "UnprocessableError",
    "Watch",
    "__version__",
    "new_key",
]
