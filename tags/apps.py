"""Task tags: what people and services say of a task, and the trail of who said and took back what."""

from django.apps import AppConfig

from executions.tagging import show_tags_of


class TagsConfig(AppConfig):
    """Tag batches and the audit trail."""

    name = "tags"

    def ready(self) -> None:
        from tags.reading import live_tags  # needs the models, which are loaded now

        show_tags_of(live_tags)
