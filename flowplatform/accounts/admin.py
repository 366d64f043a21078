"""Staff's view of accounts. Tokens are made here, shown once, found and revoked."""

from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import LogEntry
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group
from django.db.models import Count, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from rest_framework_api_key.models import APIKey
from unfold.admin import ModelAdmin, TabularInline
from unfold.contrib.filters.admin import (
    BooleanRadioFilter,
    ChoicesDropdownFilter,
    DropdownFilter,
    RelatedDropdownFilter,
)
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminIntegerFieldWidget

from flowplatform.accounts import lockout_admin as lockout_admin  # registers its own
from flowplatform.accounts.models import SCOPES, Membership, Organization, ServiceAccount, ServiceToken, User
from flowplatform.accounts.organization_filter import OrganizationFilter, SystemFilter
from flowplatform.accounts.services import give_key
from flowplatform.admin_lists import IdSearch, WithButton, links, list_address
from flowplatform.audit.authors import requester
from flowplatform.audit.writing import acting

SOON = timedelta(days=14)  # a token that ends within this wants a successor

admin.site.unregister(APIKey)  # the library's own table, which we do not use
admin.site.unregister(Group)


def in_name_of(request: HttpRequest) -> AbstractContextManager[None]:
    """Make the changes of a POST in one transaction, which the audit record tells as the person's."""
    return acting(requester(request)) if request.method == "POST" else nullcontext()


class Attributed(ModelAdmin):  # type: ignore[misc]
    """Pages that change who may do what: the database records it, and is told who pressed the button."""

    def changelist_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Run the action that was chosen, if one was."""
        with in_name_of(request):
            return super().changelist_view(request, *args, **kwargs)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Add or change."""
        with in_name_of(request):
            return super().changeform_view(request, *args, **kwargs)

    def delete_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Delete."""
        with in_name_of(request):
            return super().delete_view(request, *args, **kwargs)


@admin.register(Group)
class StaffGroupAdmin(Attributed, IdSearch, GroupAdmin):
    """Permissions that staff share."""


class MembershipInline(TabularInline):  # type: ignore[misc]
    """The roles of a user."""

    model = Membership
    extra = 0
    hide_title = True
    autocomplete_fields = ("organization",)


class MemberInline(TabularInline):  # type: ignore[misc]
    """The members of an organization."""

    model = Membership
    verbose_name_plural = "members"
    extra = 0
    per_page = 20
    hide_title = True
    autocomplete_fields = ("user",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Membership]:
        """Read the people too, by name."""
        members: QuerySet[Membership] = super().get_queryset(request)
        return members.select_related("user", "organization").order_by("user__username")


class AccountInline(TabularInline):  # type: ignore[misc]
    """The programs that act in an organization. They are changed on their own pages."""

    model = ServiceAccount
    extra = 0
    per_page = 20
    can_delete = False
    hide_title = True
    fields = readonly_fields = ("account", "created_at")
    ordering = ("name",)

    @admin.display(description="name")
    def account(self, account: ServiceAccount) -> str:
        """Its name, which leads to its page."""
        return links((reverse("admin:accounts_serviceaccount_change", args=[account.pk]), account.name))

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(User)
class PersonAdmin(Attributed, IdSearch, UserAdmin):  # type: ignore[type-arg]
    """People and their roles."""

    form = UserChangeForm
    add_form = UserCreationForm
    add_fieldsets = UserAdmin.add_fieldsets  # unfold's base class, which comes before, has an empty one
    change_password_form = AdminPasswordChangeForm
    inlines = (MembershipInline,)
    list_display = ("username", "first_name", "last_name", "email", "is_active", "is_staff", "last_login")
    list_filter = (
        OrganizationFilter.through("memberships"),
        ("is_active", BooleanRadioFilter),
        ("is_staff", BooleanRadioFilter),
        ("is_superuser", BooleanRadioFilter),
        ("groups", RelatedDropdownFilter),
    )
    search_fields = (*UserAdmin.search_fields, "id")

    def user_change_password(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Set somebody's password."""
        with in_name_of(request):
            return super().user_change_password(request, *args, **kwargs)


@admin.register(Organization)
class OrganizationAdmin(Attributed, IdSearch):
    """Tenants, each with its members and its programs."""

    list_display = ("name", "slug", "members", "accounts", "flow_count", "created_at", "elsewhere")
    ordering = ("name", "slug")
    search_fields = ("name", "slug", "id")
    readonly_fields = ("flow_count", "created_at", "elsewhere")
    inlines = (MemberInline, AccountInline)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Count by the indexes of what is counted, for the rows of one page."""
        counts = {
            "member_count": _count_of("memberships"),
            "account_count": _count_of("service_accounts"),
            "flows_count": _count_of("flows"),
        }
        organizations: QuerySet[Any] = super().get_queryset(request).annotate(**counts)
        return organizations

    @admin.display
    def members(self, organization: Any) -> int:
        """How many people."""
        return int(organization.member_count)

    @admin.display(description="service accounts")
    def accounts(self, organization: Any) -> int:
        """How many programs."""
        return int(organization.account_count)

    @admin.display(description="flows")
    def flow_count(self, organization: Any) -> int:
        """How many flows."""
        return int(organization.flows_count)

    @admin.display(description="see")
    def elsewhere(self, organization: Organization) -> str:
        """What belongs to it."""
        chosen = organization.pk
        return links(
            (list_address("executions_flow", organization=chosen), "Flows"),
            (list_address("executions_flowexecution", organization=chosen), "Executions"),
            (list_address("accounts_servicetoken", organization=chosen), "Tokens"),
        )


def _count_of(relation: str) -> Any:
    """Return how many rows lead to an organization, for use in a query over organizations."""
    related = Organization._meta.get_field(relation).related_model
    assert isinstance(related, type)
    rows = related._default_manager.filter(organization_id=OuterRef("pk")).order_by()
    return Coalesce(Subquery(rows.values("organization_id").annotate(n=Count("pk")).values("n")), 0)


@admin.register(Membership)
class MembershipAdmin(Attributed, IdSearch):
    """Who has which role where."""

    list_display = ("user", "organization", "role", "created_at")
    list_filter = (("role", ChoicesDropdownFilter), OrganizationFilter)
    list_select_related = ("user", "organization")
    search_fields = ("user__username", "organization__name", "user__id", "organization__id")
    autocomplete_fields = ("user", "organization")


@admin.register(ServiceAccount)
class ServiceAccountAdmin(Attributed, IdSearch):
    """Programs that act."""

    list_display = ("name", "organization", "created_at", "elsewhere")
    ordering = ("name", "organization__name", "id")
    list_filter = (SystemFilter, OrganizationFilter)
    list_select_related = ("organization",)
    search_fields = ("name", "organization__name", "id", "organization__id")
    autocomplete_fields = ("organization",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[ServiceAccount]:
        """Read the organizations too: an account is shown with its own, also where one is chosen for a token."""
        accounts: QuerySet[ServiceAccount] = super().get_queryset(request)
        return accounts.select_related("organization")

    def get_readonly_fields(self, request: HttpRequest, obj: ServiceAccount | None = None) -> tuple[str, ...]:
        """Keep an account where it is: its tokens would act elsewhere from one moment to the next."""
        return ("organization",) if obj else ()

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Say what an account without an organization is."""
        kwargs["help_text"] = "Leave it empty only for a system account: its tokens act in every organization."
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @admin.display(description="see")
    def elsewhere(self, account: ServiceAccount) -> str:
        """Its tokens."""
        return links((list_address("accounts_servicetoken", q=account.pk), "Tokens"))


class NewTokenForm(forms.ModelForm):  # type: ignore[type-arg]
    """What a new token needs: whose it is, what it may do, and for how long."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, scope) for scope in SCOPES],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="What the token may do. A worker that reports needs status:write.",
    )
    expires_in_days = forms.IntegerField(
        required=False,
        min_value=1,
        max_value=36_500,
        widget=UnfoldAdminIntegerFieldWidget,
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


_SHOWN = (
    "prefix",
    "service_account",
    "state",
    "expires",
    "last_use",
    "scope_list",
    "created",
    "expiry_date",
    "last_used_at",
    "revoked_at",
)

OfAccount = OrganizationFilter.through("service_account")


def in_words(moment: datetime) -> str:
    """Return how far a moment is from now: `in 3 days`, `2 hours ago`, `just now`."""
    seconds = (moment - timezone.now()).total_seconds()
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        count = round(abs(seconds) / size)
        if abs(seconds) >= size:
            text = f"{count} {unit}{'' if count == 1 else 's'}"
            return f"in {text}" if seconds > 0 else f"{text} ago"
    return "within a minute" if seconds > 0 else "just now"


def _state(state: str, glyph: str, word: str) -> str:
    return format_html(
        '<span class="status" data-state="{}"><span aria-hidden="true">{}</span>{}</span>', state, glyph, word
    )


class TokenStateFilter(DropdownFilter):  # type: ignore[misc]
    """Tokens by whether they work, and by what is to be done about them."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the states."""
        return [
            ("valid", "Valid"),
            ("soon", f"Ends within {SOON.days} days"),
            ("unused", "Valid, never used"),
            ("expired", "Expired"),
            ("revoked", "Revoked"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the choice."""
        now = timezone.now()
        live = queryset.filter(revoked=False).exclude(expiry_date__lte=now)
        choices = {
            "valid": live,
            "soon": live.filter(expiry_date__lte=now + SOON),
            "unused": live.filter(last_used_at=None),
            "expired": queryset.filter(revoked=False, expiry_date__lte=now),
            "revoked": queryset.filter(revoked=True),
        }
        narrowed: QuerySet[Any] = choices.get(self.value() or "", queryset)
        return narrowed


@admin.register(ServiceToken)
class ServiceTokenAdmin(Attributed, WithButton):
    """Tokens: the page that makes one and shows it once, last use, expiry, and the button that ends one."""

    list_display = ("prefix", "service_account", "state", "expires", "last_use", "created", "scope_list")
    list_filter = (TokenStateFilter, SystemFilter.through("service_account"), OfAccount)
    list_select_related = ("service_account__organization",)
    search_fields = ("prefix", "service_account__name", "service_account__organization__name", "service_account__id")
    autocomplete_fields = ("service_account",)
    actions = ("revoke",)
    button, button_label = "revoke", "Revoke"

    @admin.display
    def state(self, token: ServiceToken) -> str:
        """Whether it works."""
        now = timezone.now()
        if token.revoked:
            return _state("cancelled", "⊘", "revoked")
        if token.expiry_date and token.expiry_date <= now:
            return _state("cancelled", "⊘", "expired")
        if token.expiry_date and token.expiry_date <= now + SOON:
            return _state("awaiting", "◆", "ends soon")
        return _state("completed", "✓", "valid")

    @admin.display(ordering=F("expiry_date").asc(nulls_last=True))
    def expires(self, token: ServiceToken) -> str:
        """When it ends or ended, in words."""
        if token.revoked:
            return f"revoked {in_words(token.revoked_at)}" if token.revoked_at else "revoked"
        if token.expiry_date is None:
            return "never"
        return f"{'expired ' if token.expiry_date <= timezone.now() else ''}{in_words(token.expiry_date)}"

    @admin.display(description="last used", ordering=F("last_used_at").desc(nulls_last=True))
    def last_use(self, token: ServiceToken) -> str:
        """When it was used last, to the minute."""
        return in_words(token.last_used_at) if token.last_used_at else "never"

    @admin.display(description="scopes")
    def scope_list(self, token: ServiceToken) -> str:
        """What it may do."""
        return ", ".join(token.scopes)

    def may_press(self, request: HttpRequest) -> bool:
        """Let those who may delete tokens end them."""
        return bool(self.has_delete_permission(request))

    def offers_button(self, row: ServiceToken) -> bool:
        """End only what has not ended."""
        return not row.revoked

    def pressed(self, request: HttpRequest, row: ServiceToken) -> None:
        """End the token for good."""
        if row.revoked:
            messages.warning(request, f"The token {row.prefix} was revoked already.")
            return
        self._end(request, row)
        text = f"Revoked the token {row.prefix} of {row.service_account}. That is for good: to go on, make a new one."
        messages.success(request, text)

    @admin.action(description="Revoke the selected tokens", permissions=["delete"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ServiceToken]) -> None:
        """End the tokens for good."""
        tokens = list(queryset.filter(revoked=False))
        for token in tokens:
            self._end(request, token)
        messages.success(request, f"Tokens revoked: {len(tokens)}.")

    def _end(self, request: HttpRequest, token: ServiceToken) -> None:
        with in_name_of(request):
            token.revoke()
            self.log_change(request, token, f"Revoked the token {token.prefix}.")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Show a token as its row does, and with the dates to the second."""
        return self._and_button(request, _SHOWN) if obj else ()

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
            return [(None, {"fields": self._and_button(request, _SHOWN)})]
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
        entry: LogEntry = super().log_addition(request, obj, text)
        return entry

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
