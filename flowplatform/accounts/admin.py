"""Staff's view of accounts. Tokens are made here, shown once, found and revoked."""

from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils import timezone
from rest_framework_api_key.models import APIKey

from flowplatform.accounts.models import SCOPES, Membership, Organization, ServiceAccount, ServiceToken, User
from flowplatform.accounts.organization_filter import OrganizationFilter, OrganizationOrSystemFilter
from flowplatform.accounts.services import give_key
from flowplatform.admin_lists import IdSearch

admin.site.unregister(APIKey)  # the library's own table, which we do not use


class MembershipInline(admin.TabularInline):  # type: ignore[type-arg]
    """The roles of a user."""

    model = Membership
    extra = 0
    autocomplete_fields = ("organization",)


@admin.register(User)
class PersonAdmin(IdSearch, UserAdmin):  # type: ignore[type-arg]
    """People and their roles."""

    inlines = (MembershipInline,)
    list_filter = (OrganizationFilter.through("memberships"), "is_active", "is_staff", "is_superuser", "groups")
    search_fields = (*UserAdmin.search_fields, "id")


@admin.register(Organization)
class OrganizationAdmin(IdSearch):
    """Tenants."""

    list_display = ("name", "slug", "created_at")
    ordering = ("name", "slug")
    search_fields = ("name", "slug", "id")


@admin.register(Membership)
class MembershipAdmin(IdSearch):
    """Who has which role where."""

    list_display = ("user", "organization", "role", "created_at")
    list_filter = ("role", OrganizationFilter)
    list_select_related = ("user", "organization")
    search_fields = ("user__username", "organization__name", "user__id", "organization__id")
    autocomplete_fields = ("user", "organization")


@admin.register(ServiceAccount)
class ServiceAccountAdmin(IdSearch):
    """Programs that act."""

    list_display = ("name", "organization", "created_at")
    ordering = ("name", "organization__name", "id")
    list_filter = (OrganizationOrSystemFilter,)
    list_select_related = ("organization",)
    search_fields = ("name", "organization__name", "id", "organization__id")
    autocomplete_fields = ("organization",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ServiceAccount]:
        """Read the organizations too: an account is shown with its own, also where one is chosen for a token."""
        return super().get_queryset(request).select_related("organization")

    def get_readonly_fields(self, request: HttpRequest, obj: ServiceAccount | None = None) -> tuple[str, ...]:
        """Keep an account where it is: its tokens would act elsewhere from one moment to the next."""
        return ("organization",) if obj else ()

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Say what an account without an organization is."""
        kwargs["help_text"] = "Leave it empty only for a system account: its tokens act in every organization."
        return super().formfield_for_foreignkey(db_field, request, **kwargs)


class NewTokenForm(forms.ModelForm):  # type: ignore[type-arg]
    """What a new token needs: whose it is, what it may do, and for how long."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES],
        widget=forms.CheckboxSelectMultiple,
        help_text="What the token may do. A worker that reports needs status:write.",
    )
    expires_in_days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=36_500,
        help_text="The token ends after so many days. Without a number it lasts until it is revoked.",
    )

    class Meta:
        model = ServiceToken
        fields = ("service_account",)
        help_texts: ClassVar[dict[str, str]] = {
            "service_account": "The token acts where its account does. "
            "One of an account in every organization (a system account) acts in every organization."
        }

    def save(self, commit: bool = True) -> Any:
        """Count the days from now."""
        days = self.cleaned_data["expires_in_days"]
        self.instance.expiry_date = timezone.now() + timedelta(days=days) if days else None
        return super().save(commit)


@admin.register(ServiceToken)
class ServiceTokenAdmin(IdSearch):
    """Tokens: the page that makes one and shows it once, last use, expiry, and the action that ends them."""

    list_display = ("prefix", "service_account", "revoked_at", "expiry_date", "last_used_at", "created", "scopes")
    list_filter = ("revoked", OrganizationOrSystemFilter.through("service_account"))
    list_select_related = ("service_account__organization",)
    search_fields = ("prefix", "service_account__name", "service_account__organization__name", "service_account__id")
    autocomplete_fields = ("service_account",)
    actions = ("revoke",)
    fields = ("prefix", *list_display[1:])

    @admin.action(description="Revoke the selected tokens", permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ServiceToken]) -> None:
        """End the tokens for good."""
        tokens = list(queryset.filter(revoked=False))
        for token in tokens:
            token.revoke()
            self.log_change(request, token, f"Revoked the token {token.prefix}.")
        messages.success(request, f"Tokens revoked: {len(tokens)}.")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Ask for a new token's account, scopes and days."""
        if obj is None:
            kwargs["form"] = NewTokenForm
        return super().get_form(request, obj, change, **kwargs)

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Show what is known of a token; of a new one, what is asked for."""
        if obj:
            return super().get_fieldsets(request, obj)
        once = "The token is shown once, on the page that follows."
        return [(None, {"description": once, "fields": ("service_account", "scopes", "expires_in_days")})]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Offer one way to save: every other one would pass over the page that shows the token."""
        context |= {"show_save_and_add_another": False, "show_save_and_continue": False}
        return super().render_change_form(request, context, *args, **kwargs)

    def save_model(self, request: HttpRequest, obj: ServiceToken, form: Any, change: bool) -> None:
        """Make the token, and keep its text for the answer to this request alone."""
        request.raw_token = give_key(obj)  # type: ignore[attr-defined]

    def log_addition(self, request: HttpRequest, obj: ServiceToken, message: Any) -> LogEntry:
        """Log what staff will look for: the prefix, and what the token may do."""
        until = f"until {obj.expiry_date:%Y-%m-%d %H:%M} UTC" if obj.expiry_date else "without an end"
        text = f"Made the token {obj.prefix} of {obj.service_account}: {', '.join(obj.scopes)}, {until}."
        return super().log_addition(request, obj, text)

    def response_add(self, request: HttpRequest, obj: ServiceToken, post_url_continue: str | None = None) -> Any:
        """Show the token in the answer itself: for a redirect it had to be stored, in the session or in a cookie."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "A new service token",
            "token": obj,
            "raw": request.raw_token,  # type: ignore[attr-defined]
        }
        return TemplateResponse(request, "admin/accounts/servicetoken/issued.html", context)
