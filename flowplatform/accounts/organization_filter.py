"""The filter by organization of the admin's lists, for every model that belongs to one, near or far."""

from typing import Any, Self

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest

from flowplatform.accounts.models import Organization
from flowplatform.admin_lists import as_uuid


class OrganizationFilter(admin.SimpleListFilter):
    """Narrows a list to one organization, by a column that holds its id: a foreign key or a plain one.

    Rows that name no organization themselves are reached `through` a relation.
    """

    title = "organization"
    parameter_name = "organization"
    path = "organization_id"

    @classmethod
    def through(cls, relation: str) -> type[Self]:
        """Return the filter for rows whose `relation` names the organization."""
        return type(cls.__name__, (cls,), {"path": f"{relation}__{cls.path}"})

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer every organization by name."""
        names = Organization.objects.order_by("name", "slug").values_list("pk", "name")
        return [(str(pk), name) for pk, name in names]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the organization that was chosen."""
        chosen = self.value()
        if chosen is None:
            return queryset
        organization_id = as_uuid(chosen)
        if organization_id is None:
            raise IncorrectLookupParameters
        return queryset.filter(**{self.path: organization_id})


class OrganizationOrSystemFilter(OrganizationFilter):
    """Also offers what belongs to no organization, and so acts in all of them."""

    SYSTEM = "system"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer the system first, then every organization."""
        return [(self.SYSTEM, "Every organization (system)"), *super().lookups(request, model_admin)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the choice."""
        if self.value() == self.SYSTEM:
            return queryset.filter(**{f"{self.path}__isnull": True})
        return super().queryset(request, queryset)
