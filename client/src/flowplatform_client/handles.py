"""An execution as `platform.executions` returns it: its fields, and what can be done with it."""

from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flowplatform_client.models import Execution

if TYPE_CHECKING:
    from flowplatform_client.client import AsyncFlowPlatform, FlowPlatform
    from flowplatform_client.reporter import Reporter, Task

Client = TypeVar("Client", bound="FlowPlatform | AsyncFlowPlatform")


class ExecutionHandle(Execution, Generic[Client]):
    """An execution that knows its platform. The fields stay as they were when it was read.

    Both clients return it: to report takes no waiting, so there is nothing to await.
    """

    _platform: Client

    @classmethod
    def of(cls, execution: Execution, platform: Client) -> "ExecutionHandle[Client]":
        """Return the handle of an execution."""
        handle = cls(**vars(execution))
        object.__setattr__(handle, "_platform", platform)  # not a field: it does not count when executions are compared
        return handle

    @property
    def platform(self) -> Client:
        """The client that it came from."""
        return self._platform

    @property
    def page(self) -> str:
        """The address where a person watches it."""
        return self._platform.execution_page(self.id)

    def reporter(self, **options: Any) -> "Reporter":
        """Return the reporter of this handle, which its tasks use too; with options of `Reporter`, a new one."""
        from flowplatform_client.reporter import Reporter

        return Reporter(self._platform, self.id, **options) if options else self._reporter

    def task(self, name: str, *, input: Any = None, attempt: int | None = None, keep_result: bool = False) -> "Task":
        """Return a task to do, for a `with` statement or as a decorator: see `Reporter.task`."""
        return self._reporter.task(name, input=input, attempt=attempt, keep_result=keep_result)

    @cached_property
    def _reporter(self) -> "Reporter":
        from flowplatform_client.reporter import Reporter

        return Reporter(self._platform, self.id)
