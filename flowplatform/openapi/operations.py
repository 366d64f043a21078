"""How drf-spectacular reads our views: who may ask, and answers as they are written down."""

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema


class ServiceTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a program says who it is."""

    target_class = "flowplatform.accounts.authentication.ServiceTokenAuthentication"
    name = ["bearer", "apiKey"]

    def get_security_requirement(self, auto_schema: AutoSchema) -> list[dict[str, list[Any]]]:
        """Either header is enough; the inherited one would ask for both."""
        return [{name: []} for name in self.name]

    def get_security_definition(self, auto_schema: AutoSchema) -> list[dict[str, Any]]:
        """Both headers carry the same service token."""
        return [
            {"type": "http", "scheme": "bearer", "description": "A service token."},
            {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A service token."},
        ]


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """How a browser says who it is."""

    target_class = "flowplatform.accounts.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        """The cookie of a signed-in person."""
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": f"The session of a signed-in person. Writes need the CSRF token of the cookie "
            f"`{settings.CSRF_COOKIE_NAME}` in the header `X-CSRFToken` as well; without it they are 403.",
        }


class Operation(AutoSchema):
    """An operation whose answer is the schema that the view names."""

    def _is_list_view(self, serializer: Any = None) -> bool:
        """Never wrap an answer in an array because its method is called `list`: ours say themselves what they are."""
        return False

    def _is_create_operation(self) -> bool:
        """Never take a method called `create` for one that answers 201: those that do say so."""
        return False
