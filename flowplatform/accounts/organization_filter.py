"""The filter by organization of the admin's lists, for every model that belongs to one, near or far."""

from collections.abc import Iterator
from typing import Any, Self

from django.contrib import admin
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import QuerySet
from django.http import HttpRequest
from unfold.contrib.filters.admin import DropdownFilter
from unfold.contrib.filters.forms import AutocompleteDropdownForm

from flowplatform.accounts.models import Membership
from flowplatform.ids import as_uuid


class OrganizationFilter(admin.SimpleListFilter):
    """Narrows a list to one organization, by a column that holds its id: a foreign key or a plain one.

    Rows that name no organization themselves are reached `through` a relation. The organization is looked for by name:
    a list of all of them would be longer than the page.
    """

    title = "organization"
    parameter_name = "organization"
    template = "unfold/filters/filters_field.html"
    form_class = AutocompleteDropdownForm
    path = "organization_id"

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        super().__init__(request, params, model, model_admin)
        self._request, self._model_admin = request, model_admin

    @classmethod
    def through(cls, relation: str) -> type[Self]:
        """Return the filter for rows whose `relation` names the organization."""
        return type(cls.__name__, (cls,), {"path": f"{relation}__{cls.path}"})

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer nothing from the start."""
        return []

    def has_output(self) -> bool:
        """Show the field all the same."""
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield the field. Any relation to organizations will do for it: it tells the search what to look for."""
        yield {
            "form": self.form_class(
                request=self._request,
                name=self.parameter_name,
                label="Organization",
                choices=(),
                field=Membership._meta.get_field("organization"),
                model_admin=self._model_admin,
                data={self.parameter_name: self.value()},
            )
        }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the organization that was chosen."""
        chosen = self.value()
        if not chosen:
            return queryset
        organization_id = as_uuid(chosen)
        if organization_id is None:
            raise IncorrectLookupParameters
        return queryset.filter(**{self.path: organization_id})


class SystemFilter(DropdownFilter):  # type: ignore[misc]
    """Tells what acts in every organization from what belongs to one."""

    title = "where it acts"
    parameter_name = "acts_in"
    path = "organization_id"

    @classmethod
    def through(cls, relation: str) -> type[Self]:
        """Return the filter for rows whose `relation` names the organization."""
        return type(cls.__name__, (cls,), {"path": f"{relation}__{cls.path}"})

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Offer both."""
        return [("every", "In every organization (system)"), ("one", "In one organization")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Narrow to the choice."""
        choices = {"every": True, "one": False}
        chosen = self.value() or ""
        return queryset.filter(**{f"{self.path}__isnull": choices[chosen]}) if chosen in choices else queryset
