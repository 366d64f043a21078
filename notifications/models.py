"""The event log: an outbox and a replay source in one table, and a stream per flow that numbers it."""

import uuid
from typing import ClassVar

from django.contrib.postgres.functions import TransactionNow
from django.db import models
from django.db.models import F, Q

from flowplatform.accounts.models import Organization, OrganizationQuerySet
from flowplatform.fields import ExactJSONField


class Stream(models.Model):
    """The event stream of one flow. Sockets authorize against it, so nobody else's models are needed here.

    `offset` is the highest number given, `pruned_offset` the highest one that is gone. Another `epoch` means that the
    numbers began anew (a restored backup): what a client remembers of an older epoch is worth nothing.
    `changed_in` is the transaction that opened the stream or gave the highest number: unlike a time it tells for
    certain what is new since a look at the database, however late that transaction commits (`changes.py`).
    """

    flow_id = models.UUIDField(primary_key=True, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    epoch = models.UUIDField(default=uuid.uuid4)
    offset = models.BigIntegerField(default=0, db_default=0)
    pruned_offset = models.BigIntegerField(default=0, db_default=0)
    changed_in = models.BigIntegerField(default=0, db_default=0)
    created_at = models.DateTimeField(auto_now_add=True, db_default=TransactionNow())

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(pruned_offset__lte=F("offset")), name="stream_pruned_within_offset"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            # What changed in an organization since a look at it. Also the index of the foreign key.
            models.Index(fields=["organization", "changed_in"], name="stream_changes"),
        ]

    def __str__(self) -> str:
        return f"stream of flow {self.flow_id}"


class Event(models.Model):
    """One change of a flow. Written without an offset in the transaction of the change; the relay numbers it.

    `organization_id` and `flow_id` are no foreign keys: a check per row costs the hot path,
    and the log outlives what it tells of.
    """

    id = models.BigAutoField(primary_key=True)
    organization_id = models.UUIDField()
    flow_id = models.UUIDField()
    flow_execution_id = models.UUIDField(null=True)
    type = models.CharField(max_length=50)
    data = ExactJSONField()
    offset = models.BigIntegerField(null=True, blank=True)
    created_at = models.DateTimeField()

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            # Also the index of every replay. Unnumbered events are not in it.
            models.UniqueConstraint(
                fields=["organization_id", "flow_id", "offset"], condition=Q(offset__isnull=False), name="event_once"
            ),
        ]
        indexes: ClassVar[list[models.Index]] = [
            # The outbox: a handful of rows at any time, whatever the size of the log.
            models.Index(fields=["flow_id", "id"], condition=Q(offset__isnull=True), name="event_outbox"),
            models.Index(fields=["created_at"], name="event_by_age"),
        ]

    def __str__(self) -> str:
        return f"{self.type} of flow {self.flow_id}"
