"""An execution as `platform.executions` returns it: its fields, and what can be done with it."""

from typing import TYPE_CHECKING

from flowplatform_client.models import Execution

if TYPE_CHECKING:
    from flowplatform_client.client import FlowPlatform


class ExecutionHandle(Execution):
    """An execution that knows its platform. The fields stay as they were when it was read."""

    _platform: "FlowPlatform"

    @classmethod
    def of(cls, execution: Execution, platform: "FlowPlatform") -> "ExecutionHandle":
        """Return the handle of an execution."""
        handle = cls(**vars(execution))
        object.__setattr__(handle, "_platform", platform)  # not a field: it does not count when executions are compared
        return handle

    @property
    def platform(self) -> "FlowPlatform":
        """The client that it came from."""
        return self._platform

    @property
    def page(self) -> str:
        """The address where a person watches it."""
        return self._platform.execution_page(self.id)
