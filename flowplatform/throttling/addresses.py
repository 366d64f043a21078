"""The address that a client counts by."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any

UNKNOWN = "0.0.0.0"  # noqa: S104  (nothing listens there; a server on a Unix socket tells no address)
_IPV6_PREFIX = 64  # what one customer has; addresses within it are free to choose


def address_of(meta: Mapping[str, Any]) -> str:
    """Return the address of a request by its `META`.

    `REMOTE_ADDR` is the peer's, or, behind a proxy that we are told of, what that proxy says (`X-Real-IP`). No header
    that a client sends changes it.
    """
    return counted_address(meta.get("REMOTE_ADDR") or "")


@lru_cache(10_000)
def counted_address(text: str) -> str:
    """Return an IPv4 address as it is, and the network that an IPv6 address is in."""
    try:
        address = ip_address(text)
    except ValueError:
        return UNKNOWN
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ip_network((int(address), _IPV6_PREFIX), strict=False).network_address)
    return str(address)
