"""The security policy of pages."""

from collections.abc import Iterator
from typing import Any

from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponseBase
from django.http.request import split_domain_port


class ContentSecurityPolicyMiddleware(CSPMiddleware):
    """django-csp's, for HTML only: any other answer costs a look at its type.

    It adds the exceptions of the settings for paths, and the sockets where they have a port of their own.
    """

    def __call__(self, request: HttpRequest) -> Any:
        response: Any = self.get_response(request)
        if response.get("Content-Type", "").startswith("text/html"):
            return self.process_response(request, response)
        return response

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        additions = {name: list(sources) for name, sources in (parts.update or {}).items()}
        for directive, source in (*_exceptions(request), *_sockets(request)):
            additions.setdefault(directive, []).append(source)
        parts.update = additions
        return parts


def _exceptions(request: HttpRequest) -> Iterator[tuple[str, str]]:
    """Yield the directives, each with a source, that the settings add for this path."""
    for prefix, directives in settings.CONTENT_SECURITY_POLICY_EXCEPTIONS.items():
        if request.path_info.startswith(prefix):
            yield from ((directive, source) for directive, sources in directives.items() for source in sources)


def _sockets(request: HttpRequest) -> Iterator[tuple[str, str]]:
    """Yield where this page's sockets are, if that is another port: 'self' is the page's own host *and* port."""
    if not settings.SOCKETS_PORT:
        return
    try:
        host, _ = split_domain_port(request.get_host())
    except DisallowedHost:  # its answer is an error page, which needs no sockets
        return
    if host.startswith("["):  # a policy cannot name an IPv6 address
        host = "*"
    # Both, because a proxy in front may speak TLS without our knowing.
    yield from (("connect-src", f"{scheme}://{host}:{settings.SOCKETS_PORT}") for scheme in ("ws", "wss"))
