"""The composition root as a Django app: it owns the commands, the shared templates and the Celery application."""

from django.apps import AppConfig


class FlowPlatformConfig(AppConfig):
    """Loads the Celery application with Django, so that tasks find it in every process."""

    name = "flowplatform"
    verbose_name = "Flow Platform"

    def ready(self) -> None:
        from flowplatform import celery  # noqa: F401  (needs the settings, which are only complete now)
