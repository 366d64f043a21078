"""The event log and its delivery to sockets; knows nothing of flows or tags."""

from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    """Events are published in the caller's transaction, numbered by the relay, and delivered by the live role."""

    name = "notifications"
