"""Flows and their immutable versions, executions, the status history and the state derived from it."""

from typing import Any, ClassVar, Self
from uuid import UUID

import uuid_utils.compat as uuid_utils
from django.db import models
from django.db.models import F, OuterRef, Q, Subquery

from flowplatform.accounts.models import Organization, OrganizationQuerySet
from flowplatform.fields import ExactJSONField


class ExecutionStatus(models.TextChoices):
    """The statuses of a flow execution, as the contract lists them."""

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    DELETED = "deleted"
    STALE = "stale"
    EDITED = "edited"
    AWAITING_INPUT = "awaiting_input"
    CANCEL_REQUESTED = "cancel_requested"
    CANCELLED = "cancelled"


class EditedStatus(models.TextChoices):
    """Whether a person edited what a task produced."""

    NOT_EDITED = "not_edited"
    NOT_REEXECUTED = "edited_not_reexecuted"
    REEXECUTED = "edited_reexecuted"


# Statuses by which a task says that it waits for a person.
WAITING = ("awaiting_input", "requires_review")


class StaleStatus(models.TextChoices):
    """Whether something upstream changed since the task ran."""

    CONSISTENT = "consistent"
    STALE = "stale"


def _one_of(field: str, choices: type[models.TextChoices], name: str) -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(**{f"{field}__in": choices.values}), name=name)


class FlowQuerySet(OrganizationQuerySet):
    """Questions about flows."""

    def with_definition(self, number: int | None = None) -> Self:
        """Add the definition of each flow's newest version, or of version `number` to flows that have it."""
        if number is None:
            versions = FlowVersion.objects.filter(flow=OuterRef("pk"), number=OuterRef("version"))
            return self.annotate(definition=Subquery(versions.values("definition")))
        return self.filter(versions__number=number).annotate(definition=F("versions__definition"))

    def newest_first(self) -> Self:
        """Order by age; ids of version 7 settle a tie."""
        return self.order_by("-created_at", "-id")


class Flow(models.Model):
    """A workflow of an organization. `version` is the number of its newest version, `runs` counts its executions."""

    id = models.UUIDField(primary_key=True, default=uuid_utils.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="flows")
    display_name = models.CharField(max_length=255)
    description = models.CharField(max_length=5000, blank=True)
    version = models.PositiveIntegerField(default=1)
    runs = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    modified_by = models.CharField(max_length=200)

    objects = FlowQuerySet.as_manager()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(F("organization"), F("created_at").desc(), F("id").desc(), name="flow_newest_first"),
        ]

    definition: dict[str, Any]  # of the newest version, where the queryset asked for it

    def __str__(self) -> str:
        return self.display_name


class FlowVersion(models.Model):
    """A definition, for good: the database refuses to change it (migration 0002)."""

    id = models.UUIDField(primary_key=True, default=uuid_utils.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    flow = models.ForeignKey(Flow, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    definition = models.JSONField()
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.CharField(max_length=200)

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["organization", "flow", "number"], name="flow_version_once"),
        ]

    def __str__(self) -> str:
        return f"version {self.number} of flow {self.flow_id}"


class FlowExecutionQuerySet(OrganizationQuerySet):
    """Questions about executions."""

    def alive(self) -> Self:
        """Leave out what was deleted."""
        return self.exclude(status=ExecutionStatus.DELETED)

    def of_flow(self, flow_id: UUID) -> Self:
        """Narrow to one flow."""
        return self.filter(flow_id=flow_id)


class FlowExecution(models.Model):
    """One run of a flow, pinned to the version that was the newest when it was queued. Deletion is a status."""

    id = models.UUIDField(primary_key=True, default=uuid_utils.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="flow_executions")
    flow = models.ForeignKey(Flow, on_delete=models.CASCADE, related_name="executions")
    flow_version = models.PositiveIntegerField()  # with organization and flow a key to FlowVersion (migration 0007)
    run_number = models.PositiveIntegerField()
    status = models.CharField(max_length=20, choices=ExecutionStatus, default=ExecutionStatus.QUEUED)
    input = ExactJSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    modified_by = models.CharField(max_length=200)

    objects = FlowExecutionQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(fields=["organization", "flow", "run_number"], name="flow_execution_run_once"),
            _one_of("status", ExecutionStatus, "flow_execution_status_known"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(F("flow"), F("created_at").desc(), F("id").desc(), name="flow_execution_by_creation"),
            models.Index(F("flow"), F("updated_at").desc(), F("id").desc(), name="flow_execution_by_update"),
        ]

    def __str__(self) -> str:
        return f"run {self.run_number} of flow {self.flow_id}"


class TaskStatus(models.Model):
    """One status update of a task, never changed. `position` is given while the task's output row is locked, so per
    task it follows the order in which the updates took effect; an id made by the application would not.

    The table has a partition per month of `created_at` (`executions/history.py`), which is part of its key therefore.

    The execution is no database-checked key: the statement that inserts has just read it, and a check per row costs the
    hot path.
    """

    position = models.BigAutoField(primary_key=True)
    uid = models.UUIDField(default=uuid_utils.uuid7, editable=False)
    organization_id = models.UUIDField()
    flow_execution = models.ForeignKey(
        FlowExecution, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="task_statuses"
    )
    task_name = models.CharField(max_length=255)
    status = models.CharField(max_length=50)
    created_at = models.DateTimeField()

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        verbose_name_plural = "task statuses"
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["flow_execution", "position"], name="task_status_of_execution"),
            models.Index(fields=["flow_execution", "task_name", "position"], name="task_status_of_task"),
        ]

    def __str__(self) -> str:
        return f"{self.task_name}: {self.status}"


class TaskExecution(models.Model):
    """One attempt of a task; `task_execution_idx` counts them from 0. Written while the task's output row is locked."""

    id = models.UUIDField(primary_key=True, default=uuid_utils.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    flow_execution = models.ForeignKey(
        FlowExecution, on_delete=models.CASCADE, related_name="task_executions", db_index=False
    )
    task_name = models.CharField(max_length=200)
    task_execution_idx = models.PositiveIntegerField()
    processing_status = models.CharField(max_length=50)
    edited_status = models.CharField(max_length=25, choices=EditedStatus, default=EditedStatus.NOT_EDITED)
    stale_status = models.CharField(max_length=10, choices=StaleStatus, default=StaleStatus.CONSISTENT)
    input = ExactJSONField(null=True, blank=True)
    output = ExactJSONField(null=True, blank=True)
    error = ExactJSONField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    modified_by = models.CharField(max_length=200)

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            models.UniqueConstraint(
                fields=["organization", "flow_execution", "task_name", "task_execution_idx"], name="task_execution_once"
            ),
            _one_of("edited_status", EditedStatus, "task_execution_edited_known"),
            _one_of("stale_status", StaleStatus, "task_execution_stale_known"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["flow_execution", "id"], name="task_execution_of_execution"),
            models.Index(fields=["organization", "flow_execution", "task_name", "id"], name="task_execution_of_task"),
        ]

    def __str__(self) -> str:
        return f"{self.task_name} #{self.task_execution_idx}: {self.processing_status}"


class TaskOutput(models.Model):
    """The state of a task in an execution, derived: `processing_status` equals the newest row of the history.

    What else it says follows the newest attempt (`executions/task_outputs.py`). Its row is the lock of the task.
    """

    id = models.UUIDField(primary_key=True, default=uuid_utils.uuid7, editable=False)
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="+", db_index=False)
    flow_execution = models.ForeignKey(
        FlowExecution, on_delete=models.CASCADE, related_name="task_outputs", db_index=False
    )
    task_name = models.CharField(max_length=255)
    summary = ExactJSONField(null=True, blank=True)
    output = ExactJSONField(null=True, blank=True)
    error = ExactJSONField(null=True, blank=True)
    processing_status = models.CharField(max_length=50, null=True, blank=True)  # noqa: DJ001  (null: none reported yet)
    edited_status = models.CharField(
        max_length=25, choices=EditedStatus, default=EditedStatus.NOT_EDITED, db_default=EditedStatus.NOT_EDITED
    )
    stale_status = models.CharField(
        max_length=10, choices=StaleStatus, default=StaleStatus.CONSISTENT, db_default=StaleStatus.CONSISTENT
    )
    created_at = models.DateTimeField()
    updated_at = models.DateTimeField()
    modified_by = models.CharField(max_length=200)

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        constraints: ClassVar[list[models.BaseConstraint]] = [
            # No index and no predicate names a column that a status changes: those updates stay heap-only.
            models.UniqueConstraint(fields=["organization", "flow_execution", "task_name"], name="task_output_once"),
            _one_of("edited_status", EditedStatus, "task_output_edited_known"),
            _one_of("stale_status", StaleStatus, "task_output_stale_known"),
        ]
        indexes: ClassVar[list[models.Index]] = [
            models.Index(fields=["flow_execution", "id"], name="task_output_of_execution"),
            # Empty nearly always. A status batch asks it first, and does not change what it names.
            models.Index(fields=["flow_execution"], condition=Q(stale_status="stale"), name="task_output_stale"),
        ]

    def __str__(self) -> str:
        return f"{self.task_name}: {self.processing_status}"


class WaitingTask(models.Model):
    """A task whose state says that it waits for a person, since when, and by which status: rows of the few that do.

    The database keeps it (migration 0006): triggers write here when a task begins to wait, and remove the row when it
    goes on. An index on the state itself would have to be kept by every status of every task.
    """

    task_output = models.OneToOneField(
        TaskOutput, on_delete=models.CASCADE, primary_key=True, db_constraint=False, related_name="+"
    )
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )
    flow_execution = models.ForeignKey(
        FlowExecution, on_delete=models.CASCADE, db_constraint=False, db_index=False, related_name="+"
    )
    task_name = models.CharField(max_length=255)
    status = models.CharField(max_length=50)
    since = models.DateTimeField()  # saying the same status again changes nothing
    # So that what is settled, and stays, need not be looked at again: a verdict stands that was given since (a trigger
    # of the tags' migration 0002 says so); the execution was cancelled or deleted.
    is_decided = models.BooleanField(default=False, db_default=False)
    is_over = models.BooleanField(default=False, db_default=False)

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        indexes: ClassVar[list[models.Index]] = [
            models.Index(
                fields=["organization", "since"],
                condition=Q(is_decided=False, is_over=False),
                name="waiting_task_open",
            ),
            models.Index(fields=["flow_execution", "task_name"], name="waiting_task_of_task"),
        ]

    def __str__(self) -> str:
        return f"{self.task_name}: {self.status}"
