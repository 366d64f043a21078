"""What was answered to which key."""

from typing import ClassVar

from django.db import models


class IdempotencyKey(models.Model):
    """The answer to a write that came with a key, stored in the transaction of the write.

    Of a status batch `answer` has the position of its first row and the ids of all: it is made of the history again.
    `owner` is the organization's id, or the actor's where it acts in more than one. `digest` is that of method,
    path and body: the same key with another body is a mistake of the client.
    """

    id = models.BigAutoField(primary_key=True)
    owner = models.CharField(max_length=200)
    key = models.CharField(max_length=255)
    digest = models.BinaryField(max_length=32)
    answer = models.BinaryField()
    expires_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["owner", "key"], name="idempotency_key_once"),
        ]
        indexes: ClassVar[list[models.Index]] = [models.Index(fields=["expires_at"], name="idempotency_key_expiry")]

    def __str__(self) -> str:
        return self.key
