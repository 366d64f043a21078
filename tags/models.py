"""Task tags. Nothing is ever deleted: a removed tag keeps its row, and adding it again makes another one."""

from typing import ClassVar, Self
from uuid import UUID

import uuid_utils.compat as uuid_utils
from django.db import models
from django.db.models import Q

from executions.models import FlowExecution
from flowplatform.accounts.models import Organization, OrganizationQuerySet
from flowplatform.fields import ExactJSONField


class TagStatus(models.TextChoices):
    """Whether a tag stands or was taken back."""

    ACTIVE = "active"
    DELETED = "deleted"


class TaskTagQuerySet(OrganizationQuerySet):
    """Questions about tags."""

    def live(self) -> Self:
        """Leave out what was removed."""
        return self.filter(status=TagStatus.ACTIVE)

    def of_execution(self, execution_id: UUID) -> Self:
        """Narrow to one execution, oldest first."""
        return self.filter(flow_execution_id=execution_id).order_by("created_at", "id")


class TaskTag(models.Model):
    """One tag of a task: added once, perhaps removed once.

    Its identity is execution, task name, tag, type and metadata; the metadata takes part as the digest of its canonical
    JSON, because jsonb in a unique key has a size limit. `created_by` added it; `modified_by` and
    `updated_at` say who removed it and when, once it is removed.
    """

    id = models.UUIDField(primary_key=True, default=uuid_utils.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    flow_execution = models.ForeignKey(
        FlowExecution, on_delete=models.CASCADE, related_name="task_tags", db_index=False
    )
    task_name = models.CharField(max_length=200)
    tag = models.CharField(max_length=200)
    tag_type = models.CharField(max_length=100)
    tag_metadata = ExactJSONField(null=True, blank=True)
    metadata_digest = models.BinaryField(max_length=32, editable=False)
    status = models.CharField(max_length=10, choices=TagStatus, default=TagStatus.ACTIVE)
    created_at = models.DateTimeField()
    created_by = models.CharField(max_length=200)
    updated_at = models.DateTimeField()
    modified_by = models.CharField(max_length=200)

    objects = TaskTagQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["organization", "flow_execution", "task_name", "tag", "tag_type", "metadata_digest"],
                condition=Q(status="active"),
                name="task_tag_live_once",
            ),
            models.CheckConstraint(condition=Q(status__in=TagStatus.values), name="task_tag_status_known"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["flow_execution", "created_at", "id"], name="task_tag_trail"),
            # The review pages: what asks for a verdict, and the verdicts in the order in which they came and went.
            models.Index(
                fields=["organization", "created_at", "id"],
                condition=Q(status="active", tag="requires_review"),
                name="task_tag_asks",
            ),
            models.Index(
                fields=["organization", "created_at", "id"], condition=Q(tag_type="review"), name="task_tag_decided"
            ),
            models.Index(
                fields=["organization", "updated_at", "id"],
                condition=Q(tag_type="review", status="deleted"),
                name="task_tag_taken_back",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tag_type}: {self.tag} on {self.task_name}"
