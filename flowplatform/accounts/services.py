"""Writes to accounts, and the step from a credential to an actor."""

from collections.abc import Collection
from datetime import timedelta

from django.db import transaction
from django.utils import timezone

from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import Membership, Organization, ServiceAccount, ServiceToken, User


def authenticate_token(raw: str) -> Actor | None:
    """Return the actor that a service token speaks for; `None` if it is malformed, unknown, expired or revoked."""
    try:
        token = ServiceToken.objects.get_from_key(raw)
    except ServiceToken.DoesNotExist:
        return None
    token.note_use()
    return Actor(
        name=f"service:{token.service_account.name}",
        organization_ids=token.organization_ids(),
        is_service=True,
        scopes=frozenset(token.scopes),
    )


def actor_of_user(user: User) -> Actor:
    """Return the actor of a signed-in person: one query for the roles."""
    roles = dict(user.memberships.values_list("organization_id", "role"))
    return Actor(name=f"user:{user.username}", organization_ids=frozenset(roles), is_service=False, roles=roles)


def ensure_organization(*, slug: str, name: str = "") -> Organization:
    """Return the organization with the slug, made if it is missing."""
    organization, _ = Organization.objects.get_or_create(slug=slug, defaults={"name": name or slug})
    return organization


def ensure_member(*, user: User, organization: Organization, role: str) -> Membership:
    """Give the user the role in the organization."""
    membership, _ = Membership.objects.update_or_create(user=user, organization=organization, defaults={"role": role})
    return membership


@transaction.atomic
def issue_service_token(
    *, organization: Organization | None, name: str, scopes: Collection[str], expires_in: timedelta | None = None
) -> str:
    """Make a token for the service account `name`, itself made if missing, and return its text: the only time it shows.

    Without an organization it is a system token, which acts in every organization.
    """
    account, _ = ServiceAccount.objects.get_or_create(organization=organization, name=name)
    expiry = timezone.now() + expires_in if expires_in else None
    _, raw = ServiceToken.objects.create_key(
        name=name[:50], service_account=account, scopes=sorted(scopes), expiry_date=expiry
    )
    return raw
