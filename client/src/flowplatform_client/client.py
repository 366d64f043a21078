"""`FlowPlatform` and `AsyncFlowPlatform`: a server, a token, and everything that can be asked."""

import math
from types import TracebackType
from typing import Any, TypeVar

from flowplatform_client import resources
from flowplatform_client.address import Address
from flowplatform_client.calls import Id
from flowplatform_client.following import Following
from flowplatform_client.http import AsyncDriver, SyncDriver
from flowplatform_client.retries import OnWait, RetryPolicy
from flowplatform_client.watching import AsyncWatch, Watch

Self = TypeVar("Self", bound="_Client")

TIMEOUT_SECONDS = 10.0
CONNECTIONS = 10


def _say_nothing(reason: str) -> None:
    """Wait in silence."""


class _Client:
    """What both clients have in common."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        organization: str | None,
        sockets_url: str | None,
        allow_plain_http: bool,
        on_wait: OnWait,
    ) -> None:
        self.address = Address(
            url, token, organization=organization, sockets_url=sockets_url, allow_plain_http=allow_plain_http
        )
        self._on_wait = on_wait

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """The address of the server."""
        return self.address.url

    @classmethod
    def from_environment(cls: type[Self], **options: Any) -> Self:
        """Return the client that FLOWPLATFORM_URL and FLOWPLATFORM_TOKEN name; the options are those of the class.

        FLOWPLATFORM_ORGANIZATION, FLOWPLATFORM_SOCKETS_URL and FLOWPLATFORM_ALLOW_PLAIN_HTTP may be set too. Raises
        `ConfigurationError` if one is missing or cannot be what it should.
        """
        address = Address.from_environment()
        return cls(
            address.url,
            address.token,
            **{
                "organization": address.organization,
                "sockets_url": address.sockets_url,
                "allow_plain_http": address.allow_plain_http,
                **options,
            },
        )

    def flow_page(self, flow_id: object) -> str:
        """Return the address where a person watches a flow."""
        return self.address.of_flow(flow_id)

    def execution_page(self, execution_id: object) -> str:
        """Return the address where a person watches an execution."""
        return self.address.of_execution(execution_id)

    def _following(self, flow_id: Id, since: int | None, epoch: str | None, patience_seconds: float) -> Following:
        address = self.address.of_flow_socket(flow_id)
        return Following(address, since, epoch, patience_seconds=patience_seconds, on_wait=self._on_wait)


class FlowPlatform(_Client):
    """The platform at an address, for programs that wait for answers. Any number of threads may share one.

    `timeout` is in seconds, for connecting and for every silence of the server; `retries` says how long a call lasts
    in all. `organization` is the slug that tokens of several organizations have to name. `sockets_url` is where the
    sockets are, if not at `url`. `on_wait` is told, in one sentence, why a call has to wait.

    Nothing is asked before the first call. Raises `ConfigurationError` for an address or a token that cannot be one,
    and for a token that would travel to another machine over plain http without `allow_plain_http`. Every call raises
    `ApiError` if the server refuses, and `ConnectionFailedError` if it does not answer.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = TIMEOUT_SECONDS,
        retries: RetryPolicy | None = None,
        connections: int = CONNECTIONS,
        organization: str | None = None,
        sockets_url: str | None = None,
        allow_plain_http: bool = False,
        on_wait: OnWait = _say_nothing,
    ) -> None:
        super().__init__(
            url,
            token,
            organization=organization,
            sockets_url=sockets_url,
            allow_plain_http=allow_plain_http,
            on_wait=on_wait,
        )
        self._driver = SyncDriver(
            self.address, timeout=timeout, retries=retries or RetryPolicy(), connections=connections, on_wait=on_wait
        )
        self.flows = resources.Flows(self._driver)
        self.executions = resources.Executions(self._driver, self)
        self.statuses = resources.Statuses(self._driver)
        self.task_executions = resources.TaskExecutions(self._driver)
        self.task_outputs = resources.TaskOutputs(self._driver)
        self.tags = resources.Tags(self._driver)
        self.events = resources.Events(self._driver)

    def watch(
        self, flow_id: Id, *, since: int | None = None, epoch: str | None = None, patience_seconds: float = math.inf
    ) -> Watch:
        """Return the events of a flow as they happen, each once and in order: see `Watch`.

        `since` and `epoch` are the offset and the epoch of the last event that is known; without them the first item
        is a `Reset` that says where the events begin. It connects again for as long as it takes, or until nothing
        was heard for `patience_seconds`.
        """
        return Watch(self.address, self._following(flow_id, since, epoch, patience_seconds))

    def close(self) -> None:
        """Close the kept connections."""
        self._driver.close()

    def __enter__(self) -> "FlowPlatform":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncFlowPlatform(_Client):
    """The platform at an address, for asyncio. Everything is named and behaves as in `FlowPlatform`."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        timeout: float = TIMEOUT_SECONDS,
        retries: RetryPolicy | None = None,
        connections: int = CONNECTIONS,
        organization: str | None = None,
        sockets_url: str | None = None,
        allow_plain_http: bool = False,
        on_wait: OnWait = _say_nothing,
    ) -> None:
        super().__init__(
            url,
            token,
            organization=organization,
            sockets_url=sockets_url,
            allow_plain_http=allow_plain_http,
            on_wait=on_wait,
        )
        self._driver = AsyncDriver(
            self.address, timeout=timeout, retries=retries or RetryPolicy(), connections=connections, on_wait=on_wait
        )
        self.flows = resources.AsyncFlows(self._driver)
        self.executions = resources.AsyncExecutions(self._driver, self)
        self.statuses = resources.AsyncStatuses(self._driver)
        self.task_executions = resources.AsyncTaskExecutions(self._driver)
        self.task_outputs = resources.AsyncTaskOutputs(self._driver)
        self.tags = resources.AsyncTags(self._driver)
        self.events = resources.AsyncEvents(self._driver)

    def watch(
        self, flow_id: Id, *, since: int | None = None, epoch: str | None = None, patience_seconds: float = math.inf
    ) -> AsyncWatch:
        """Return the events of a flow as they happen, each once and in order: see `AsyncWatch`.

        `since` and `epoch` are the offset and the epoch of the last event that is known; without them the first item
        is a `Reset` that says where the events begin. It connects again for as long as it takes, or until nothing
        was heard for `patience_seconds`.
        """
        return AsyncWatch(self.address, self._following(flow_id, since, epoch, patience_seconds))

    async def close(self) -> None:
        """Close the kept connections."""
        await self._driver.close()

    async def __aenter__(self) -> "AsyncFlowPlatform":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
