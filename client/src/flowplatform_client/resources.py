"""The parts of a client, such as `platform.flows`: each method sends the request that `endpoints` describes.

`_call`, `_pages` and `_steps` turn such a description into a method, and their asynchronous fellows into a coroutine.
Signatures and documentation are those of the description, so both clients have the same ones.
"""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from flowplatform_client import endpoints
from flowplatform_client.calls import Call
from flowplatform_client.endpoints import Steps
from flowplatform_client.handles import ExecutionHandle
from flowplatform_client.http import AsyncDriver, SyncDriver
from flowplatform_client.models import Execution
from flowplatform_client.pages import AsyncPages, Page, Pages, changed

if TYPE_CHECKING:
    from flowplatform_client.client import AsyncFlowPlatform, FlowPlatform

    Handle = ExecutionHandle[FlowPlatform]
    AsyncHandle = ExecutionHandle[AsyncFlowPlatform]

P = ParamSpec("P")
T = TypeVar("T")


class Resource:
    """A part of the synchronous client."""

    def __init__(self, driver: SyncDriver) -> None:
        self._driver = driver


class AsyncResource:
    """A part of the asynchronous client."""

    def __init__(self, driver: AsyncDriver) -> None:
        self._driver = driver


def _call(describe: Callable[P, Call[T]]) -> Callable[Concatenate[Resource, P], T]:
    @wraps(describe)
    def method(self: Resource, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._driver.send(describe(*args, **kwargs))

    return method


def _pages(describe: Callable[P, Call[Page[T]]]) -> Callable[Concatenate[Resource, P], Pages[T]]:
    @wraps(describe)
    def method(self: Resource, /, *args: P.args, **kwargs: P.kwargs) -> Pages[T]:
        return Pages(self._driver, describe(*args, **kwargs))

    return method


def _steps(describe: Callable[P, Steps[T]]) -> Callable[Concatenate[Resource, P], T]:
    @wraps(describe)
    def method(self: Resource, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._driver.run(describe(*args, **kwargs))

    return method


def _async_call(
    describe: Callable[P, Call[T]],
) -> Callable[Concatenate[AsyncResource, P], Coroutine[Any, Any, T]]:
    @wraps(describe)
    async def method(self: AsyncResource, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._driver.send(describe(*args, **kwargs))

    return method


def _async_pages(describe: Callable[P, Call[Page[T]]]) -> Callable[Concatenate[AsyncResource, P], AsyncPages[T]]:
    @wraps(describe)
    def method(self: AsyncResource, /, *args: P.args, **kwargs: P.kwargs) -> AsyncPages[T]:
        return AsyncPages(self._driver, describe(*args, **kwargs))

    return method


def _async_steps(
    describe: Callable[P, Steps[T]],
) -> Callable[Concatenate[AsyncResource, P], Coroutine[Any, Any, T]]:
    @wraps(describe)
    async def method(self: AsyncResource, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._driver.run(describe(*args, **kwargs))

    return method


def _handle(
    describe: Callable[P, Call[Execution]],
) -> Callable[Concatenate["Executions", P], "Handle"]:
    @wraps(describe)
    def method(self: "Executions", /, *args: P.args, **kwargs: P.kwargs) -> "Handle":
        return self._driver.send(describe(*args, **kwargs).then(self._of_ours))

    return method


def _handles(
    describe: Callable[P, Call[Page[Execution]]],
) -> Callable[Concatenate["Executions", P], Pages["Handle"]]:
    @wraps(describe)
    def method(self: "Executions", /, *args: P.args, **kwargs: P.kwargs) -> Pages["Handle"]:
        return Pages(self._driver, changed(describe(*args, **kwargs), self._of_ours))

    return method


def _async_handle(
    describe: Callable[P, Call[Execution]],
) -> Callable[Concatenate["AsyncExecutions", P], Coroutine[Any, Any, "AsyncHandle"]]:
    @wraps(describe)
    async def method(self: "AsyncExecutions", /, *args: P.args, **kwargs: P.kwargs) -> "AsyncHandle":
        return await self._driver.send(describe(*args, **kwargs).then(self._of_ours))

    return method


def _async_handles(
    describe: Callable[P, Call[Page[Execution]]],
) -> Callable[Concatenate["AsyncExecutions", P], AsyncPages["AsyncHandle"]]:
    @wraps(describe)
    def method(self: "AsyncExecutions", /, *args: P.args, **kwargs: P.kwargs) -> AsyncPages["AsyncHandle"]:
        return AsyncPages(self._driver, changed(describe(*args, **kwargs), self._of_ours))

    return method


class Flows(Resource):
    """`platform.flows`."""

    create = _call(endpoints.create_flow)
    get = _call(endpoints.get_flow)
    list = _pages(endpoints.list_flows)
    define = _call(endpoints.define_flow)
    ensure = _steps(endpoints.ensure_flow)


class Executions(Resource):
    """`platform.executions`. What it returns are handles."""

    def __init__(self, driver: SyncDriver, platform: "FlowPlatform") -> None:
        super().__init__(driver)
        self._platform = platform

    def _of_ours(self, execution: Execution) -> "Handle":
        return ExecutionHandle.of(execution, self._platform)

    create = _handle(endpoints.create_execution)
    get = _handle(endpoints.get_execution)
    list = _handles(endpoints.list_executions)
    cancel = _call(endpoints.cancel_execution)
    delete = _call(endpoints.delete_execution)
    set_status = _handle(endpoints.set_execution_status)
    execute = _call(endpoints.execute_again)


class Statuses(Resource):
    """`platform.statuses`."""

    add = _call(endpoints.add_statuses)
    history = _pages(endpoints.list_statuses)


class TaskExecutions(Resource):
    """`platform.task_executions`."""

    put = _call(endpoints.put_task_execution)
    edit = _call(endpoints.edit_task_execution)
    get = _call(endpoints.get_task_execution)
    list = _pages(endpoints.list_task_executions)


class TaskOutputs(Resource):
    """`platform.task_outputs`."""

    set = _call(endpoints.set_task_output)
    get = _call(endpoints.get_task_output)
    list = _pages(endpoints.list_task_outputs)


class Tags(Resource):
    """`platform.tags`."""

    change = _call(endpoints.change_tags)
    add = _call(endpoints.add_tag)
    remove = _call(endpoints.remove_tag)
    list = _call(endpoints.list_tags)


class Events(Resource):
    """`platform.events`: what the sockets tell, over HTTP."""

    list = _pages(endpoints.list_events)
    read = _call(endpoints.read_events)


class AsyncFlows(AsyncResource):
    """`platform.flows`."""

    create = _async_call(endpoints.create_flow)
    get = _async_call(endpoints.get_flow)
    list = _async_pages(endpoints.list_flows)
    define = _async_call(endpoints.define_flow)
    ensure = _async_steps(endpoints.ensure_flow)


class AsyncExecutions(AsyncResource):
    """`platform.executions`. What it returns are handles."""

    def __init__(self, driver: AsyncDriver, platform: "AsyncFlowPlatform") -> None:
        super().__init__(driver)
        self._platform = platform

    def _of_ours(self, execution: Execution) -> "AsyncHandle":
        return ExecutionHandle.of(execution, self._platform)

    create = _async_handle(endpoints.create_execution)
    get = _async_handle(endpoints.get_execution)
    list = _async_handles(endpoints.list_executions)
    cancel = _async_call(endpoints.cancel_execution)
    delete = _async_call(endpoints.delete_execution)
    set_status = _async_handle(endpoints.set_execution_status)
    execute = _async_call(endpoints.execute_again)


class AsyncStatuses(AsyncResource):
    """`platform.statuses`."""

    add = _async_call(endpoints.add_statuses)
    history = _async_pages(endpoints.list_statuses)


class AsyncTaskExecutions(AsyncResource):
    """`platform.task_executions`."""

    put = _async_call(endpoints.put_task_execution)
    edit = _async_call(endpoints.edit_task_execution)
    get = _async_call(endpoints.get_task_execution)
    list = _async_pages(endpoints.list_task_executions)


class AsyncTaskOutputs(AsyncResource):
    """`platform.task_outputs`."""

    set = _async_call(endpoints.set_task_output)
    get = _async_call(endpoints.get_task_output)
    list = _async_pages(endpoints.list_task_outputs)


class AsyncTags(AsyncResource):
    """`platform.tags`."""

    change = _async_call(endpoints.change_tags)
    add = _async_call(endpoints.add_tag)
    remove = _async_call(endpoints.remove_tag)
    list = _async_call(endpoints.list_tags)


class AsyncEvents(AsyncResource):
    """`platform.events`: what the sockets tell, over HTTP."""

    list = _async_pages(endpoints.list_events)
    read = _async_call(endpoints.read_events)
