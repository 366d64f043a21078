"""Writes to accounts, and the step from a credential to an actor."""

import hashlib
import re
import time
from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

from flowplatform import tenancy
from flowplatform.accounts.actors import Actor
from flowplatform.accounts.models import SCOPES, Membership, Organization, Role, ServiceAccount, ServiceToken, User

WRITERS = frozenset([Role.MEMBER.value, Role.ADMIN.value])

LAST_USED_PRECISION = timedelta(minutes=1)  # a hot path must not write at every request

_TOKEN_FORM = re.compile(r"[A-Za-z0-9]{8}\.[A-Za-z0-9]{40}")

# Written out because it is a part of every request: through the ORM it was the largest part of a status batch.
_FIND = """
    SELECT token.id, token.hashed_key, token.scopes, token.last_used_at,
           account.id, account.name, account.organization_id
    FROM accounts_servicetoken AS token JOIN accounts_serviceaccount AS account ON account.id = token.service_account_id
    WHERE token.prefix = %s AND NOT token.revoked
      AND (token.expiry_date IS NULL OR token.expiry_date > statement_timestamp())
"""


def authenticate_token(raw: str) -> Actor | None:
    """Return the actor that a service token speaks for; `None` if it is malformed, unknown, expired or revoked."""
    if not _TOKEN_FORM.fullmatch(raw):
        return None
    with tenancy.showing(tenancy.EVERYBODY), connection.cursor() as cursor:  # whose it is shows then
        cursor.execute(_FIND, [raw.partition(".")[0]])
        found = cursor.fetchone()
    if found is None or not ServiceToken.objects.key_generator.verify(raw, found[1]):
        return None
    token_id, _, scopes, last_used_at, account_id, name, organization_id = found
    _note_use(token_id, last_used_at)
    return Actor(
        id=account_id,
        name=f"service:{name}",
        organization_ids=None if organization_id is None else frozenset([organization_id]),
        is_service=True,
        scopes=frozenset(scopes),
        token_id=token_id,
    )


_remembered: dict[bytes, tuple[float, Actor]] = {}  # until when, by the digest of a token
_MOST_REMEMBERED = 10_000


def remembered_actor(raw: str) -> Actor | None:
    """Return the actor of a token that this process found valid within the last minute, else as `authenticate_token`.

    The token may have ended since. This is only for who finds that out before the answer: a write by `TOKEN_HOLDS` in
    its own statement, which saves one way to the database, and a refusal by `token_holds`.
    """
    digest = hashlib.sha256(raw.encode()).digest()
    until, actor = _remembered.get(digest, (0.0, None))
    if until < time.monotonic():
        actor = authenticate_token(raw)
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        if actor:
            _remembered[digest] = time.monotonic() + LAST_USED_PRECISION.total_seconds(), actor
    return actor


# In a statement with the parameter `token`, the `token_id` of the actor; an actor without one has nothing that can end.
TOKEN_HOLDS = """(
    %(token)s::text IS NULL OR EXISTS (
        SELECT FROM accounts_servicetoken AS token WHERE token.id = %(token)s::text AND NOT token.revoked
        AND (token.expiry_date IS NULL OR token.expiry_date > statement_timestamp())
    )
)"""  # noqa: S105  (no password, whatever its name)


def token_holds(actor: Actor) -> bool:
    """Say whether the token that the actor came with is still valid."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {TOKEN_HOLDS}", {"token": actor.token_id})
        holds: bool = cursor.fetchone()[0]
    return holds


def _note_use(token_id: str, last_used_at: datetime | None) -> None:
    """Remember that the token was used, at most once a minute."""
    now = timezone.now()
    if last_used_at is None or now - last_used_at >= LAST_USED_PRECISION:
        ServiceToken.objects.filter(pk=token_id).update(last_used_at=now)


def actor_of_user(user: User) -> Actor:
    """Return the actor of a signed-in person: one query for the roles."""
    with tenancy.showing(tenancy.EVERYBODY):
        roles = dict(user.memberships.values_list("organization_id", "role"))
    return Actor(
        id=user.pk, name=f"user:{user.username}", organization_ids=frozenset(roles), is_service=False, roles=roles
    )


def actor_of_staff(user: User) -> Actor:
    """Return the actor of a staff member in the admin: in every organization, as the admin's permissions allow."""
    return Actor(
        id=user.pk, name=f"user:{user.username}", organization_ids=None, is_service=True, scopes=frozenset(SCOPES)
    )


def may_write(actor: Actor, organization_id: UUID, scope: str) -> bool:
    """Say whether the actor is a member or admin of the organization, or a token with the scope."""
    return actor.has_scope(scope) or actor.has_role(organization_id, WRITERS)


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
    return give_key(ServiceToken(service_account=account, scopes=list(scopes), expiry_date=expiry))


def give_key(token: ServiceToken) -> str:
    """Store a new token under a key of its own and return its text: the only time it shows. Only its hash is kept."""
    token.name = token.service_account.name[:50]
    token.scopes = sorted(token.scopes)
    raw: str = ServiceToken.objects.assign_key(token)
    token.save(force_insert=True)
    return raw


def prune_tokens(*, before: datetime) -> int:
    """Remove tokens that were revoked or expired before a moment; return how many."""
    return ServiceToken.objects.filter(Q(revoked_at__lt=before) | Q(expiry_date__lt=before)).delete()[0]
