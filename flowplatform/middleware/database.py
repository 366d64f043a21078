"""Whose rows the database shows to a request, and the answer where there is no database."""

from typing import Any

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponse, HttpResponseBase

from flowplatform import errors, tenancy
from flowplatform.middleware.types import GetResponse


class TenancyMiddleware:
    """Begins every request with no organization's rows being shown, and leaves its thread so."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        with tenancy.showing(tenancy.NOBODY):
            return self.get_response(request)

    def process_view(self, request: HttpRequest, *_: Any) -> None:
        """Show staff everybody's rows in the admin; everywhere else who authenticates the request says whose."""
        match, user = request.resolver_match, getattr(request, "user", None)
        if match and match.app_name == "admin" and user and user.is_active and user.is_staff:
            tenancy.show(tenancy.EVERYBODY)


class UnavailableMiddleware:
    """Turns a database that is away into 503 where no API view stands in between."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """Answer 503 for an unavailable database; leave every other exception alone."""
        if isinstance(exception, DatabaseError | InterfaceError) and errors.is_unavailable(exception):
            errors.note_unavailable(exception)
            return errors.unavailable(request)
        return None
