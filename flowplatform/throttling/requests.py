"""What HTTP requests spend, and what their answers say about it."""

from typing import Any

from django.http import HttpRequest, HttpResponseBase

from flowplatform.throttling.allowances import Spent, spend

_KEPT = "rate_limit"  # the attribute of a request: the allowance that is nearest to its end


def charge(request: HttpRequest, name: str, key: str) -> Spent | None:
    """Spend one unit of an allowance for a request; `None` if that allowance is off."""
    return keep(request, spend(name, key))


def keep(request: HttpRequest, spent: Spent | None) -> Spent | None:
    """Remember what a request spent, and return it."""
    kept = charged(request)
    setattr(request, _KEPT, _nearest_to_its_end(kept, spent) if kept and spent else kept or spent)
    return spent


def _nearest_to_its_end(one: Spent, other: Spent) -> Spent:
    if one.allowed != other.allowed:
        return other if one.allowed else one
    return other if other.remaining * one.amount < one.remaining * other.amount else one


def charged(request: HttpRequest) -> Spent | None:
    """Return what the request was charged: of several allowances the one that is nearest to its end."""
    kept: Spent | None = getattr(request, _KEPT, None)
    return kept


def is_charged(request: HttpRequest) -> bool:
    """Say whether the request was charged to anybody, also where that allowance is off."""
    return hasattr(request, _KEPT)


def is_refused(spent: Spent | None) -> bool:
    """Say whether nothing was left."""
    return spent is not None and not spent.allowed


def add_headers(request: HttpRequest, response: HttpResponseBase | Any) -> None:
    """Tell the client how much is left, in the fields of draft-ietf-httpapi-ratelimit-headers-06."""
    spent = charged(request)
    if spent is not None:
        response["RateLimit-Limit"] = str(spent.amount)
        response["RateLimit-Remaining"] = str(spent.remaining)
        response["RateLimit-Reset"] = str(spent.reset)
        response["RateLimit-Policy"] = f"{spent.amount};w={spent.seconds}"
