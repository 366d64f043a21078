"""Task executions: one row per attempt of a task."""

import django.db.models.deletion
import uuid_utils.compat
from django.db import migrations, models

import flowplatform.fields

# An edit marks thousands of attempts stale: room on their pages keeps those updates off the indexes.
ROOM = "ALTER TABLE executions_taskexecution SET (fillfactor = 75);"
NO_ROOM = "ALTER TABLE executions_taskexecution RESET (fillfactor);"


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("executions", "0002_database_rules"),
    ]

    operations = [
        migrations.CreateModel(
            name="TaskExecution",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid_utils.compat.uuid7, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("task_name", models.CharField(max_length=200)),
                ("task_execution_idx", models.PositiveIntegerField()),
                ("processing_status", models.CharField(max_length=50)),
                (
                    "edited_status",
                    models.CharField(
                        choices=[
                            ("not_edited", "Not Edited"),
                            ("edited_not_reexecuted", "Not Reexecuted"),
                            ("edited_reexecuted", "Reexecuted"),
                        ],
                        default="not_edited",
                        max_length=25,
                    ),
                ),
                (
                    "stale_status",
                    models.CharField(
                        choices=[("consistent", "Consistent"), ("stale", "Stale")], default="consistent", max_length=10
                    ),
                ),
                ("input", flowplatform.fields.ExactJSONField(blank=True, null=True)),
                ("output", flowplatform.fields.ExactJSONField(blank=True, null=True)),
                ("error", flowplatform.fields.ExactJSONField(blank=True, null=True)),
                ("started_at", models.DateTimeField(blank=True, null=True)),
                ("completed_at", models.DateTimeField(blank=True, null=True)),
                ("created_at", models.DateTimeField()),
                ("updated_at", models.DateTimeField()),
                ("modified_by", models.CharField(max_length=200)),
                (
                    "flow_execution",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="task_executions",
                        to="executions.flowexecution",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["flow_execution", "id"], name="task_execution_of_execution"),
                    models.Index(fields=["flow_execution", "task_name", "id"], name="task_execution_of_task"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("flow_execution", "task_name", "task_execution_idx"), name="task_execution_once"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            ("edited_status__in", ["not_edited", "edited_not_reexecuted", "edited_reexecuted"])
                        ),
                        name="task_execution_edited_known",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("stale_status__in", ["consistent", "stale"])),
                        name="task_execution_stale_known",
                    ),
                ],
            },
        ),
        migrations.RunSQL(ROOM, NO_ROOM),
    ]
