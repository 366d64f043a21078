"""Reporting how tasks go, without slowing or breaking the work."""

from flowplatform_client.reporter.reporter import Reporter
from flowplatform_client.reporter.tasks import Task, TaskRun, described

__all__ = ["Reporter", "Task", "TaskRun", "described"]
