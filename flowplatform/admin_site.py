"""The frame of the admin: its site, its menu, and what `settings.UNFOLD` asks for by name."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.templatetags.static import static
from django.urls import reverse
from unfold.sites import UnfoldAdminSite

from flowplatform.audit.authors import requester
from flowplatform.audit.writing import acting

# Groups of the menu: a title, and models with the word and the symbol that stand for them.
_MENU: tuple[tuple[str, tuple[tuple[str, str, str], ...]], ...] = (
    (
        "Runs",
        (
            ("executions.flow", "Flows", "account_tree"),
            ("executions.flowversion", "Versions", "commit"),
            ("executions.flowexecution", "Executions", "play_circle"),
            ("executions.taskstatus", "Status history", "history"),
            ("executions.taskexecution", "Attempts", "replay"),
            ("executions.taskoutput", "Task states", "checklist"),
        ),
    ),
    (
        "Review",
        (
            ("executions.waitingtask", "Waiting for a person", "hourglass_top"),
            ("tags.tasktag", "Tags", "sell"),
        ),
    ),
    (
        "People",
        (
            ("accounts.organization", "Organizations", "domain"),
            ("accounts.membership", "Members", "group"),
            ("accounts.user", "Users", "person"),
            ("auth.group", "Staff groups", "admin_panel_settings"),
        ),
    ),
    (
        "Access",
        (
            ("accounts.serviceaccount", "Service accounts", "smart_toy"),
            ("accounts.servicetoken", "Service tokens", "key"),
            ("axes.accessattempt", "Failed sign-ins", "lock_person"),
            ("audit.record", "Audit record", "receipt_long"),
        ),
    ),
    (
        "Delivery",
        (
            ("notifications.stream", "Streams and backlog", "stream"),
            ("notifications.event", "Events", "bolt"),
            ("idempotency.idempotencykey", "Idempotency keys", "fingerprint"),
        ),
    ),
)


class Site(UnfoldAdminSite):  # type: ignore[misc]
    """The admin."""

    def password_change(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Change one's own password; the audit record, which the database writes, names the person."""
        with acting(requester(request)):
            response: HttpResponse = super().password_change(request, extra_context)
        return response


def mark(request: HttpRequest) -> str:
    """Return the address of the platform's sign."""
    return static("flowplatform/mark.svg")


def styles_of_tokens(request: HttpRequest) -> str:
    """Return the address of the colours, which the pages have too."""
    return static("flowplatform/tokens.css")


def styles(request: HttpRequest) -> str:
    """Return the address of the admin's own styles."""
    return static("flowplatform/admin/admin.css")


def shell(request: HttpRequest) -> str:
    """Return the address of the script that lets unfold live under the platform's Content-Security-Policy."""
    return static("flowplatform/admin/shell.js")


def without_inline_colors(request: HttpRequest) -> dict[str, Any]:
    """Leave out unfold's inline style element: `admin.css` says the colours."""
    return {"colors": None}


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the menu, grouped by what staff come for; unfold leaves out what the permissions of a person do not."""
    dashboard = {"title": "Dashboard", "icon": "monitoring", "link": reverse("admin:index")}
    groups = [{"title": title, "items": [_item(*entry) for entry in entries]} for title, entries in _MENU]
    return [{"items": [dashboard]}, *groups]


def _item(model: str, title: str, icon: str) -> dict[str, Any]:
    app, name = model.split(".")
    link = reverse(f"admin:{app}_{name}_changelist")
    return {"title": title, "icon": icon, "link": link, "permission": _may_view(app, name)}


def _may_view(app: str, name: str) -> Callable[[HttpRequest], bool]:
    def may_view(request: HttpRequest) -> bool:
        return any(request.user.has_perm(f"{app}.{verb}_{name}") for verb in ("view", "change"))

    return may_view
