"""Staff's view of accounts. Tokens are made by the command, which shows them once; here they are found and revoked."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from rest_framework_api_key.models import APIKey

from flowplatform.accounts.models import Membership, Organization, ServiceAccount, ServiceToken, User

admin.site.unregister(APIKey)  # the library's own table, which we do not use


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    """The roles of a user."""

    model = Membership
    extra = 0
    autocomplete_fields = ("organization",)


@admin.register(User)
class PersonAdmin(UserAdmin):  # type: ignore[type-arg]
    """People and their roles."""

    inlines = (MembershipInline,)


@admin.register(Organization)
class OrganizationAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Tenants."""

    list_display = ("name", "slug", "created_at")
    search_fields = ("name", "slug")


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Who has which role where."""

    list_display = ("user", "organization", "role", "created_at")
    list_filter = ("role", "organization")
    list_select_related = ("user", "organization")
    search_fields = ("user__username", "organization__name")
    autocomplete_fields = ("user", "organization")


@admin.register(ServiceAccount)
class ServiceAccountAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Programs that act."""

    list_display = ("name", "organization", "created_at")
    list_filter = ("organization",)
    list_select_related = ("organization",)
    search_fields = ("name",)


@admin.register(ServiceToken)
class ServiceTokenAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Tokens: last use, expiry, and the action that ends them."""

    list_display = ("prefix", "service_account", "organization", "scopes", "last_used_at", "expiry_date", "revoked_at")
    list_filter = ("revoked", "service_account__organization")
    list_select_related = ("service_account__organization",)
    search_fields = ("prefix", "service_account__name")
    actions = ("revoke",)

    @admin.display(description="organization")
    def organization(self, token: ServiceToken) -> str:
        """Where the token acts."""
        return str(token.service_account.organization or "every organization")

    @admin.action(description="Revoke the selected tokens", permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ServiceToken]) -> None:
        """End the tokens for good."""
        tokens = list(queryset.filter(revoked=False))
        for token in tokens:
            token.revoke()
        messages.success(request, f"{len(tokens)} tokens revoked.")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
