"""Which tasks wait for a person: a narrow table that the database keeps itself, by triggers on the task outputs.

The state of a task is in no index, because every status would have to keep it, and the updates of outputs would no
longer be heap-only. The conditions of the triggers are all that a status pays that has nothing to do with waiting.

Plans of a function stay in use while the table grows: hence without sequential scans.

Run it while the platform is stopped: it reads every task output, and nobody can write one until it is done.
"""

import django.db.models.deletion
from django.db import migrations, models

KEEP = """
CREATE FUNCTION executions_note_waiting() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    IF NEW.processing_status IN ('awaiting_input', 'requires_review') THEN
        INSERT INTO executions_waitingtask (task_output_id, organization_id, flow_execution_id, task_name, status, since)
        VALUES (NEW.id, NEW.organization_id, NEW.flow_execution_id, NEW.task_name, NEW.processing_status, NEW.updated_at)
        ON CONFLICT (task_output_id) DO UPDATE
            SET status = excluded.status, since = excluded.since, is_decided = false;
    ELSE
        DELETE FROM executions_waitingtask WHERE task_output_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER task_output_begins_waiting AFTER INSERT ON executions_taskoutput
    FOR EACH ROW WHEN (NEW.processing_status IN ('awaiting_input', 'requires_review'))
    EXECUTE FUNCTION executions_note_waiting();
CREATE TRIGGER task_output_waits_or_goes_on AFTER UPDATE OF processing_status ON executions_taskoutput
    FOR EACH ROW WHEN (
        NEW.processing_status IS DISTINCT FROM OLD.processing_status
        AND (NEW.processing_status IN ('awaiting_input', 'requires_review')
             OR OLD.processing_status IN ('awaiting_input', 'requires_review'))
    )
    EXECUTE FUNCTION executions_note_waiting();
CREATE FUNCTION executions_note_end_of_waiting() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
BEGIN
    UPDATE executions_waitingtask SET is_over = NEW.status IN ('cancelled', 'deleted') WHERE flow_execution_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER flow_execution_ends_or_lives AFTER UPDATE OF status ON executions_flowexecution
    FOR EACH ROW WHEN ((NEW.status IN ('cancelled', 'deleted')) <> (OLD.status IN ('cancelled', 'deleted')))
    EXECUTE FUNCTION executions_note_end_of_waiting();
INSERT INTO executions_waitingtask
    (task_output_id, organization_id, flow_execution_id, task_name, status, since, is_over)
SELECT output.id, output.organization_id, output.flow_execution_id, output.task_name, output.processing_status,
       output.updated_at, execution.status IN ('cancelled', 'deleted')
FROM executions_taskoutput AS output JOIN executions_flowexecution AS execution ON execution.id = flow_execution_id
WHERE processing_status IN ('awaiting_input', 'requires_review');
"""
FORGET = """
DROP TRIGGER flow_execution_ends_or_lives ON executions_flowexecution;
DROP FUNCTION executions_note_end_of_waiting();
DROP TRIGGER task_output_begins_waiting ON executions_taskoutput;
DROP TRIGGER task_output_waits_or_goes_on ON executions_taskoutput;
DROP FUNCTION executions_note_waiting();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0001_initial"),
        ("executions", "0005_history_by_month"),
    ]

    operations = [
        migrations.CreateModel(
            name="WaitingTask",
            fields=[
                (
                    "task_output",
                    models.OneToOneField(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="executions.taskoutput",
                    ),
                ),
                ("task_name", models.CharField(max_length=255)),
                ("status", models.CharField(max_length=50)),
                ("since", models.DateTimeField()),
                ("is_decided", models.BooleanField(db_default=False, default=False)),
                ("is_over", models.BooleanField(db_default=False, default=False)),
                (
                    "flow_execution",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="executions.flowexecution",
                    ),
                ),
                (
                    "organization",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.organization",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(
                        condition=models.Q(("is_decided", False), ("is_over", False)),
                        fields=["organization", "since"],
                        name="waiting_task_open",
                    ),
                    models.Index(fields=["flow_execution", "task_name"], name="waiting_task_of_task"),
                ],
            },
        ),
        migrations.RunSQL(KEEP, FORGET),
    ]
