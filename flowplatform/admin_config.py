"""Django's admin with a site of ours, as its documentation asks for it: a module that imports no models."""

from django.contrib.admin import apps


class AdminConfig(apps.AdminConfig):
    """The admin's app."""

    default_site = "flowplatform.admin_site.Site"
