"""How much somebody may ask for."""

import logging
from collections.abc import Iterable
from http import HTTPStatus

from django.conf import settings
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest, HttpResponseBase

from flowplatform import errors
from flowplatform.accounts.authentication import token_of
from flowplatform.accounts.throttles import Attempt
from flowplatform.middleware.people import presents_token
from flowplatform.middleware.types import GetResponse
from flowplatform.throttling.addresses import address_of
from flowplatform.throttling.allowances import Spent, spend
from flowplatform.throttling.requests import add_headers, charge, is_charged, is_refused, keep

logger = logging.getLogger("flowplatform.requests")


class RateLimitMiddleware:
    """Charges whoever is not an actor with a token (`ActorThrottle` does that), and says what is left.

    People are charged by name and address, whoever has no credential by address. What a request with a token costs
    shows in its answer: if nobody was charged the token was not valid, or there is no such route.
    """

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self._of_token(request) if presents_token(request) else self._of_others(request)
        if request.path_info.startswith("/api/"):
            add_headers(request, response)
        return response

    def _of_token(self, request: HttpRequest) -> HttpResponseBase:
        attempt = Attempt(address_of(request.META), token_of(request) or "")
        if refusal := attempt.refusal():
            keep(request, refusal)
            return errors.too_many_requests(request, refusal.reset)
        response = self.get_response(request)
        if not is_charged(request) and response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
            is_failure = response.status_code == HTTPStatus.UNAUTHORIZED
            spent = attempt.failed() if is_failure else (spend("anonymous", attempt.address),)
            if refusal := _refusal(keep(request, each) for each in spent):
                return errors.too_many_requests(request, refusal.reset)
        return response

    def _of_others(self, request: HttpRequest) -> HttpResponseBase:
        address = address_of(request.META)
        try:
            person = request.user if settings.SESSION_COOKIE_NAME in request.COOKIES else None
            accounts = [("anonymous", address)]
            if person is not None and person.is_authenticated:
                accounts = [("person", person.pk.hex), ("address", address)]
        except (DatabaseError, InterfaceError) as exception:
            if not errors.is_unavailable(exception):
                raise
            logger.warning("database unavailable: %s", exception)
            return errors.unavailable(request)
        if refusal := _refusal(charge(request, name, key) for name, key in accounts):
            return errors.too_many_requests(request, refusal.reset)
        return self.get_response(request)


def _refusal(spent: Iterable[Spent | None]) -> Spent | None:
    """Return the first that has nothing left; what comes after it is not charged."""
    return next(filter(is_refused, spent), None)
