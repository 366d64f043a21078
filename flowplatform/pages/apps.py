"""The pages as a Django app, for their templates and scripts."""

from django.apps import AppConfig


class PagesConfig(AppConfig):
    """Has no models: pages show what the other apps know."""

    name = "flowplatform.pages"
