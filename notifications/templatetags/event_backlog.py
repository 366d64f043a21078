"""The line that tells staff what waits for a number: on the first page of the admin, and above streams and events."""

from typing import Any

from django import template

from notifications.backlog import LATE, as_text, read_backlog

register = template.Library()


@register.inclusion_tag("notifications/backlog.html")
def event_backlog() -> dict[str, Any]:
    """Show the backlog as it is now."""
    backlog = read_backlog()
    return {"backlog": backlog, "oldest": as_text(backlog.oldest), "late": int(LATE.total_seconds())}
