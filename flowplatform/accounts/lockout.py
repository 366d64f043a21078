"""Sign-ins that fail: after a few a name is locked out at the address that they came from, and nowhere else.

django-axes counts and locks, by the name together with the address: the owner of a name signs in from elsewhere as
before. An address has an allowance of attempts besides, because each costs a slow hash, whatever names it tries. A
locked name is answered before its password is looked at, whether anybody has it or not.
"""

import math
from datetime import datetime
from typing import Any

import orjson
from axes.backends import AxesStandaloneBackend
from axes.models import AccessAttempt
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from flowplatform import errors
from flowplatform.throttling.addresses import address_of
from flowplatform.throttling.requests import charge, charged, is_refused


def address(request: HttpRequest) -> str:
    """Return the address that attempts are counted by."""
    return address_of(request.META)


class SignInBackend(AxesStandaloneBackend):  # type: ignore[misc]
    """Stands before the one that knows passwords, and lets nobody pass who is locked out."""

    def authenticate(self, request: HttpRequest, *args: Any, **credentials: Any) -> None:
        """Refuse by raising PermissionDenied: Django then asks no other backend, and axes answers by `answer`."""
        if is_refused(charge(request, "sign_ins", address(request))):
            request.axes_locked_out = True  # type: ignore[attr-defined]
            raise PermissionDenied
        super().authenticate(request, *args, **credentials)


def answer(request: HttpRequest, response: HttpResponse, credentials: dict[str, Any] | None) -> HttpResponse:
    """Answer 429 with the time to wait, to a program as JSON, to a person as a page."""
    seconds = _wait(request, (credentials or {}).get("username"))
    headers = {"Retry-After": str(seconds)}
    if "application/json" in request.headers.get("Accept", ""):
        message = f"Too many attempts to sign in. Try again in {seconds} s."
        body = orjson.dumps(errors.envelope(request, message=message, code="rate_limited"))
        return HttpResponse(body, status=429, content_type="application/json", headers=headers)
    shown = {"minutes": math.ceil(seconds / 60), "request_id": errors.request_id_of(request)}
    page = render(None, "registration/locked_out.html", shown, status=429)
    page["Retry-After"] = headers["Retry-After"]
    return page


def _wait(request: HttpRequest, username: str | None) -> int:
    """Return the seconds until this name, or at least this address, may try again."""
    if is_refused(spent := charged(request)) and spent:
        return spent.reset
    attempts = AccessAttempt.objects.filter(username=username, ip_address=address(request))
    last: datetime = attempts.aggregate(Max("attempt_time"))["attempt_time__max"] or timezone.now()
    end = last + settings.AXES_COOLOFF_TIME
    return max(1, math.ceil((end - timezone.now()).total_seconds()))
