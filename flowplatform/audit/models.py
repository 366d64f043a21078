"""The audit record. Its table is partitioned by month, and its rows are never changed: see the first migration."""

from typing import ClassVar

from django.db import models
from django.db.models import F, Func, Q

from flowplatform.audit.vocabulary import Action, Kind, Outcome

DETAILS_BYTES = 16 * 1024  # as the database stores them


class Record(models.Model):
    """Who did or tried what, when and from where.

    It names organization, actor and subject by id and by text, and has no foreign keys: it outlives them all. What
    belongs to no organization, such as a sign-in, names none.
    """

    position = models.BigAutoField(primary_key=True)
    created_at = models.DateTimeField()
    action = models.CharField(max_length=40)
    outcome = models.CharField(max_length=10, choices=Outcome)
    actor_kind = models.CharField("kind of actor", max_length=10, choices=Kind)
    actor_id = models.UUIDField("actor's id", null=True)
    actor_name = models.CharField("actor", max_length=200)
    organization_id = models.UUIDField(null=True)
    subject_type = models.CharField(max_length=40)
    subject_id = models.CharField(max_length=100)
    subject_text = models.CharField("subject", max_length=200)
    address = models.GenericIPAddressField(null=True)
    request_id = models.CharField(max_length=26)
    details = models.JSONField()

    class Meta:
        verbose_name = "audit record"
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.CheckConstraint(condition=Q(action__in=Action.values), name="audit_record_action_known"),
            models.CheckConstraint(condition=Q(outcome__in=Outcome.values), name="audit_record_outcome_known"),
            models.CheckConstraint(condition=Q(actor_kind__in=Kind.values), name="audit_record_kind_known"),
            models.CheckConstraint(
                condition=models.lookups.LessThanOrEqual(
                    Func(F("details"), function="pg_column_size", output_field=models.IntegerField()), DETAILS_BYTES
                ),
                name="audit_record_details_small",
            ),
        ]
        # Every tag batch writes a row here: these, and none more.
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["organization_id", "position"], name="audit_record_organization"),
            models.Index(fields=["actor_name", "position"], name="audit_record_actor"),
            models.Index(fields=["actor_id", "position"], name="audit_record_actor_id"),
            models.Index(fields=["subject_id", "position"], name="audit_record_subject"),
            models.Index(fields=["request_id"], name="audit_record_request"),
        ]

    def __str__(self) -> str:
        return f"{self.action} by {self.actor_name}"
