"""Flows, their executions, task statuses and the state derived from them."""

from django.apps import AppConfig


class ExecutionsConfig(AppConfig):
    """Flows and versions, executions, status history and derived task outputs."""

    name = "executions"
