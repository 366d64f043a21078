"""The line that tells staff what waits for a number: on the first page of the admin, and above streams and events."""

from typing import Any

from django import template

from notifications.backlog import LATE, as_text, read_backlog

register = template.Library()


@register.inclusion_tag("notifications/backlog.html", takes_context=True)
def event_backlog(context: dict[str, Any]) -> dict[str, Any]:
    """Show the backlog as it is now, and a button to those who may have it relayed."""
    backlog = read_backlog()
    may_retry = context["request"].user.has_perm("notifications.change_stream")
    return {
        "backlog": backlog,
        "oldest": as_text(backlog.oldest),
        "late": int(LATE.total_seconds()),
        "may_retry": may_retry,
    }
