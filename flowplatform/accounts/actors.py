"""Who makes a request, reduced to what decisions need: a name, organizations, roles and scopes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from flowplatform import tenancy
from flowplatform.audit.authors import Author, Origin


@dataclass(frozen=True, slots=True)
class Actor:
    """A signed-in person or a service account.

    `id` is the user's or the service account's; `name` is what `modified_by` records: `user:alice` or `service:doc-3`.
    `organization_ids` is `None` for a system service account, which acts in every organization. `roles` are a person's,
    by organization; `scopes` a token's. `token_id` is the token that a service account came with.
    """

    id: UUID
    name: str
    organization_ids: frozenset[UUID] | None
    is_service: bool
    scopes: frozenset[str] = frozenset()
    roles: Mapping[UUID, str] = field(default_factory=dict)
    token_id: str | None = None

    @property
    def is_authenticated(self) -> bool:
        """What DRF asks: an actor exists only for a valid credential."""
        return True

    @property
    def shown(self) -> str:
        """Whose rows the database is to show (`flowplatform.tenancy`): its organizations', and what is its own."""
        ids = self.organization_ids
        return tenancy.value_of(ids if ids is None or len(ids) == 1 else [*ids, self.id])

    def acts_in(self, organization_id: UUID) -> bool:
        """Say whether rows of the organization exist for this actor."""
        return self.organization_ids is None or organization_id in self.organization_ids

    def has_scope(self, scope: str) -> bool:
        """Say whether this is a service account whose token has the scope."""
        return self.is_service and scope in self.scopes

    def has_role(self, organization_id: UUID, roles: frozenset[str]) -> bool:
        """Say whether this is a person with one of the roles in the organization."""
        return self.roles.get(organization_id) in roles

    def as_author(self, origin: Origin) -> Author:
        """Return how the audit record names this actor; of its token it gets the prefix, which is no secret."""
        token = self.token_id.partition(".")[0] if self.token_id else None
        return Author(self.name, self.id, origin, token)
