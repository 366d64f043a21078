"""Where the server is and who asks: checked before anything is sent."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from flowplatform_client.errors import ConfigurationError

URL_VARIABLE = "FLOWPLATFORM_URL"
TOKEN_VARIABLE = "FLOWPLATFORM_TOKEN"  # noqa: S105 (the name of a variable, not a token)
SOCKETS_URL_VARIABLE = "FLOWPLATFORM_SOCKETS_URL"
ORGANIZATION_VARIABLE = "FLOWPLATFORM_ORGANIZATION"
PLAIN_HTTP_VARIABLE = "FLOWPLATFORM_ALLOW_PLAIN_HTTP"


@dataclass(frozen=True)
class Address:
    """A server and a token for it. The token shows in no text that is made from this.

    Raises `ConfigurationError` for what cannot be one, and for a token that would travel readable by everybody on the
    way: over plain http, to another machine, without `allow_plain_http`.
    """

    url: str
    token: str = field(repr=False)
    organization: str | None = None
    sockets_url: str | None = None
    allow_plain_http: bool = False

    def __post_init__(self) -> None:
        _check_token(self.token)
        if self.organization is not None and not _fits_in_a_header(self.organization):
            raise ConfigurationError(f"{self.organization!r} is not the slug of an organization")
        object.__setattr__(self, "url", self._checked(self.url))
        object.__setattr__(self, "sockets_url", self._checked(self.sockets_url or self.url))

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Address":
        """Return what FLOWPLATFORM_URL and FLOWPLATFORM_TOKEN say; raise `ConfigurationError` if one is missing."""
        for name in (URL_VARIABLE, TOKEN_VARIABLE):
            if not environment.get(name, "").strip():
                raise ConfigurationError(f"the environment variable {name} is not set")
        return cls(
            environment[URL_VARIABLE].strip(),
            environment[TOKEN_VARIABLE].strip(),
            organization=environment.get(ORGANIZATION_VARIABLE, "").strip() or None,
            sockets_url=environment.get(SOCKETS_URL_VARIABLE, "").strip() or None,
            allow_plain_http=plain_http_is_allowed(environment),
        )

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine."""
        return _is_local(urlsplit(self.url).hostname or "")

    @property
    def headers(self) -> dict[str, str]:
        """What every request says of who asks."""
        headers = {"Authorization": f"Bearer {self.token}"}
        return headers if self.organization is None else {**headers, "X-Organization": self.organization}

    def of_flow(self, flow_id: object) -> str:
        """Return where a person watches a flow."""
        return f"{self.url}/flows/{flow_id}/"

    def of_execution(self, execution_id: object) -> str:
        """Return where a person watches an execution."""
        return f"{self.url}/executions/{execution_id}/"

    def of_flow_socket(self, flow_id: object) -> str:
        """Return where the events of a flow are."""
        return f"{'ws' + (self.sockets_url or '').removeprefix('http')}/ws/flows/{quote(str(flow_id), safe='')}"

    def _checked(self, url: str) -> str:
        """Return a server's address without a trailing slash."""
        host = _host(url)
        if host is None:
            raise ConfigurationError(
                f"{_shown(url)!r} is not the address of a server: give one such as http://127.0.0.1:8000"
            )
        if not (url.startswith("https:") or self.allow_plain_http or _is_local(host)):
            raise ConfigurationError(
                f"the token would be readable on the way to {url}: use https, or allow plain http"
                f" (allow_plain_http=True, {PLAIN_HTTP_VARIABLE}=1)"
            )
        return url.rstrip("/")


def plain_http_is_allowed(environment: Mapping[str, str] = os.environ) -> bool:
    """Say whether the environment lets tokens travel over plain http."""
    return environment.get(PLAIN_HTTP_VARIABLE, "").strip().lower() in ("1", "true", "yes", "on")


def _check_token(token: str) -> None:
    if not _fits_in_a_header(token):
        raise ConfigurationError("the service token holds characters that no token has")


def _fits_in_a_header(text: str) -> bool:
    return bool(text) and text.isascii() and text.isprintable() and text == text.strip()


def _host(url: str) -> str | None:
    """Return the host of an address of a server, `None` if it is no such address."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for one that is none
    except ValueError:
        return None
    is_plain = url.isprintable() and " " not in url and parts.username is None and not (parts.query or parts.fragment)
    return parts.hostname if is_plain and parts.scheme in ("http", "https") else None


def _shown(url: str) -> str:
    """Return an address without a password that it may hold."""
    return url.rpartition("@")[2]


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
