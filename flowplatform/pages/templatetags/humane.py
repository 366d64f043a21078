"""How templates write moments and lengths of time; `served.js` makes the times local and lets the lengths grow."""

from datetime import UTC, datetime, timedelta

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from flowplatform.pages import humane

register = template.Library()


@register.simple_tag
def moment(at: datetime) -> SafeString:
    """Write a moment in UTC."""
    at = at.astimezone(UTC)
    return format_html('<time datetime="{}">{} UTC</time>', at.isoformat(), f"{at:%Y-%m-%d %H:%M}")


@register.filter
def duration(length: timedelta) -> str:
    """Write a length of time."""
    return humane.duration(length)


@register.simple_tag
def since(at: datetime) -> SafeString:
    """Write for how long something has been going on."""
    return format_html(
        '<span data-since="{}">{}</span>', at.astimezone(UTC).isoformat(), humane.elapsed(timezone.now() - at)
    )
