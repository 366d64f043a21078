"""The base of every API view: organization scoping applied once, and checks that read like the contract."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar, cast
from uuid import UUID

from django.db import models
from pydantic import BaseModel
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, AuthenticationFailed, NotFound, PermissionDenied, Throttled
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from flowplatform.accounts.actors import Actor
from flowplatform.accounts.authentication import ServiceTokenAuthentication, SessionAuthentication
from flowplatform.accounts.models import Organization, OrganizationQuerySet, Scope
from flowplatform.accounts.services import may_write, remembered_actor, token_holds
from flowplatform.errors import BadRequest, Unprocessable
from flowplatform.schemas import path_identifier, validate, validate_query

Row = TypeVar("Row", bound=models.Model)
Rows = TypeVar("Rows", bound=OrganizationQuerySet)
Schema = TypeVar("Schema", bound=BaseModel)


class TrustingViewSet(APIView):
    """Believes a token that this process found valid within the last minute, for the sake of one query per request.

    Its writes ask by `TOKEN_HOLDS` or `token_holds`, in the transaction, whether the token still holds; a refusal asks
    here before it is answered. `trusted` are the methods for which that is so.
    """

    trusted: tuple[str, ...]

    def get_authenticators(self) -> list[BaseAuthentication]:
        if self.request is None or self.request.method not in self.trusted:  # there is none while it is documented
            return super().get_authenticators()
        return [ServiceTokenAuthentication(remembered_actor), SessionAuthentication()]

    def handle_exception(self, exc: Exception) -> Response:
        # Whoever asks for too much is told so without a question to the database.
        is_refusal = isinstance(exc, APIException | Unprocessable) and not isinstance(exc, Throttled)
        if is_refusal and self.request.method in self.trusted and not self._holds():
            exc = AuthenticationFailed()
        return super().handle_exception(exc)

    def _holds(self) -> bool:
        """Say whether what was believed still holds. Only asked after a refusal: asking finds out who it is, too."""
        actor = self.request.user
        return not isinstance(actor, Actor) or token_holds(actor)


class OrganizationViewSet(ViewSet, Generic[Row, Rows]):
    """A view set over rows of organizations.

    `rows` is the way to the view's model, narrowed to what the actor may see: a view cannot forget it.
    Reading needs the scope `read` of a token and any role of a person; writes say what they need.
    """

    model: type[Row]

    @cached_property
    def actor(self) -> Actor:
        """Who makes the request."""
        actor = self.request.user
        assert isinstance(actor, Actor)
        return actor

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method in ("GET", "HEAD"):
            self.require(
                not self.actor.is_service or self.actor.has_scope(Scope.READ), "The token lacks the scope read."
            )

    def rows(self) -> Rows:
        """Return the rows of the actor's organizations."""
        queryset = cast(Rows, self.model._default_manager.all())
        return queryset.visible_to(self.actor)

    def row_or_404(self, name: str, narrow: Callable[[Rows], Rows] = lambda rows: rows) -> Row:
        """Return the row whose id is the path parameter `name`, from `narrow(rows)`; missing or foreign is 404."""
        row: Row | None = narrow(self.rows()).filter(pk=self.path_id(name)).first()
        if row is None:
            raise NotFound
        return row

    def path_id(self, name: str) -> UUID:
        """Return a path parameter as a UUID; 422 if it is none."""
        return path_identifier(name, self.kwargs[name])

    def body(self, schema: type[Schema]) -> Schema:
        """Return the request body as `schema`; 422 where it does not fit."""
        if self.request.META.get("CONTENT_LENGTH") in (None, "", "0"):  # DRF would take no body for an empty object
            raise BadRequest("The body is empty; JSON is expected.")
        return validate(schema, self.request.data, where="body")

    def query(self, schema: type[Schema]) -> Schema:
        """Return the query parameters as `schema`; 422 where they do not fit."""
        return validate_query(schema, self.request.query_params)

    def require(self, allowed: bool, reason: str) -> None:
        """Raise 403 with the reason unless allowed."""
        if not allowed:
            raise PermissionDenied(reason)

    def require_service(self, scope: Scope) -> None:
        """Only a service token with the scope may go on."""
        self.require(self.actor.has_scope(scope), f"A service token with the scope {scope.value} is required.")

    def require_writer(self, organization_id: UUID, scope: Scope) -> None:
        """A member or admin of the organization, or a token with the scope, may go on."""
        self.require(
            may_write(self.actor, organization_id, scope),
            f"The role member or admin, or a token with the scope {scope.value}, is required.",
        )

    def require_writer_somewhere(self, scope: Scope) -> None:
        """Who may write in no organization at all may not go on; which one it is shows later."""
        organization_ids = self.actor.organization_ids
        allowed = organization_ids is None or any(may_write(self.actor, pk, scope) for pk in organization_ids)
        self.require(allowed, f"The role member or admin, or a token with the scope {scope.value}, is required.")

    def organization_for_new(self) -> UUID:
        """Return the organization a new row goes to: the actor's only one, or the one that `X-Organization` names."""
        named = self.request.headers.get("X-Organization")
        ids = self.actor.organization_ids
        if not named and ids is not None and len(ids) == 1:
            return next(iter(ids))
        if not named:
            raise BadRequest("Name the organization in the header X-Organization (its slug): there is not exactly one.")
        organization = Organization.objects.filter(slug=named.replace("\0", "")).first()
        if organization is None or not self.actor.acts_in(organization.pk):
            raise NotFound
        return organization.pk
