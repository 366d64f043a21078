"""The composition root as a Django app: it owns the commands, the shared templates and the Celery application."""

from django.apps import AppConfig


class FlowPlatformConfig(AppConfig):
    """Loads with Django what registers itself: the Celery application and the OpenAPI extensions."""

    name = "flowplatform"
    verbose_name = "Flow Platform"

    def ready(self) -> None:
        # They need the settings, which are only complete now, and register themselves.
        from flowplatform import celery, checks, openapi, role  # noqa: F401

        if role.serves():  # whatever server it was that loaded our application
            checks.refuse_unsafe()
