"""The event log and its delivery. The other apps know one name of it: `publish`."""

from notifications.publishing import publish

__all__ = ["publish"]
