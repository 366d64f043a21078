"""`Idempotency-Key`: a client that did not hear an answer may ask again without writing twice."""

from django.apps import AppConfig


class IdempotencyConfig(AppConfig):
    """Keys of writes that were answered, and the answers, for 24 hours."""

    name = "flowplatform.idempotency"
    label = "idempotency"
