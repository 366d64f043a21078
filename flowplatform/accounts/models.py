"""Who acts: users, organizations, members, service accounts and service tokens."""

from typing import Any, ClassVar, Self

import uuid_utils.compat as uuid_utils
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils import timezone
from rest_framework_api_key.crypto import KeyGenerator
from rest_framework_api_key.models import AbstractAPIKey, BaseAPIKeyManager

from flowplatform.accounts.actors import Actor


class Role(models.TextChoices):
    """What a member may do: look, take part, or administer."""

    VIEWER = "viewer"
    MEMBER = "member"
    ADMIN = "admin"


class Scope(models.TextChoices):
    """What a service token may do."""

    STATUS_WRITE = "status:write"
    EXECUTIONS_WRITE = "executions:write"
    TAGS_WRITE = "tags:write"
    READ = "read"


SCOPES: tuple[str, ...] = tuple(Scope.values)


class OrganizationQuerySet(models.QuerySet[Any]):
    """A queryset of rows that belong to an organization; every scoped model's queryset builds on it."""

    def visible_to(self, actor: Actor) -> Self:
        """Narrow to the organizations of `actor`; a system service account sees all of them."""
        if actor.organization_ids is None:
            return self
        return self.filter(organization_id__in=actor.organization_ids)


class User(AbstractUser):
    """A person who signs in."""

    id = models.UUIDField(primary_key=True, default=uuid_utils.uuid7, editable=False)


class Organization(models.Model):
    """A tenant: every row of the platform belongs to one."""

    id = models.UUIDField(primary_key=True, default=uuid_utils.uuid7, editable=False)
    slug = models.SlugField(max_length=100, unique=True)
    name = models.CharField(max_length=200)
    created_at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A user's role in an organization."""

    id = models.UUIDField(primary_key=True, default=uuid_utils.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role, default=Role.MEMBER)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["organization", "user"], name="membership_once"),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="membership_role_known"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization} ({self.role})"


class ServiceAccount(models.Model):
    """A program that acts: in one organization, or, without one (a system account), in every organization."""

    id = models.UUIDField(primary_key=True, default=uuid_utils.uuid7, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, null=True, blank=True, related_name="service_accounts"
    )
    name = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["organization", "name"], nulls_distinct=False, name="service_account_name_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} in {self.organization or 'every organization'}"


class ServiceTokenManager(BaseAPIKeyManager):
    """Makes tokens: eight characters that find the row, a dot, and forty that only their hash is kept of."""

    key_generator = KeyGenerator(prefix_length=8, secret_key_length=40)


class ServiceToken(AbstractAPIKey):
    """A secret that lets a program act as its service account. Only a hash is stored; `prefix` finds the row."""

    service_account = models.ForeignKey(ServiceAccount, on_delete=models.CASCADE, related_name="tokens")
    scopes = ArrayField(models.CharField(max_length=30, choices=Scope))
    last_used_at = models.DateTimeField(null=True, blank=True, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar[ServiceTokenManager] = ServiceTokenManager()  # type: ignore[assignment]

    class Meta:
        ordering: ClassVar[list[str]] = ["-created"]
        verbose_name = "service token"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(scopes__contained_by=list(SCOPES)), name="service_token_scopes_known"),
        ]

    def revoke(self) -> None:
        """End the token for good."""
        self.revoked, self.revoked_at = True, timezone.now()
        self.save(update_fields=["revoked", "revoked_at"])
