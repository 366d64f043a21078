"""The composition root as a Django app: it owns the commands, the shared templates and the Celery application."""

from django.apps import AppConfig


class FlowPlatformConfig(AppConfig):
    """Loads with Django what registers itself: the Celery application and the OpenAPI extensions."""

    name = "flowplatform"
    verbose_name = "Flow Platform"

    def ready(self) -> None:
        from flowplatform import checks, role

        # Whatever server it was that loaded our application. Asked first: Celery's file claims a role that is free.
        if role.current() in checks.SERVING:
            checks.refuse_unsafe()
        # Both need the settings, which are only complete now, and register themselves.
        from flowplatform import celery, openapi  # noqa: F401
