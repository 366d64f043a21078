"""Row-level security for tags, and the organization first in their unique key.

Run it while the platform is stopped: nobody can write tags until the index is built.
"""

from django.db import migrations, models

# As before, with the organization: the index of live tags begins with it.
SETTLE = """
CREATE OR REPLACE FUNCTION tags_settle_waiting() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    waiting_id uuid;
BEGIN
    IF NEW.status = 'active' THEN
        SELECT task_output_id INTO waiting_id FROM executions_waitingtask
        WHERE flow_execution_id = NEW.flow_execution_id AND task_name = NEW.task_name AND since <= NEW.created_at
        FOR UPDATE SKIP LOCKED;
        UPDATE executions_waitingtask SET is_decided = true WHERE task_output_id = waiting_id;
    ELSE
        UPDATE executions_waitingtask AS waiting SET is_decided = EXISTS (
            SELECT FROM tags_tasktag AS verdict
            WHERE verdict.organization_id = NEW.organization_id
              AND verdict.flow_execution_id = NEW.flow_execution_id AND verdict.task_name = NEW.task_name
              AND verdict.tag IN ('approved', 'rejected', 'reviewed') AND verdict.tag_type = 'review'
              AND verdict.status = 'active' AND verdict.created_at >= waiting.since
        )
        WHERE waiting.flow_execution_id = NEW.flow_execution_id AND waiting.task_name = NEW.task_name;
    END IF;
    RETURN NULL;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0007_row_security"),
        ("tags", "0002_review"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="tasktag", name="task_tag_live_once"),
        migrations.AddConstraint(
            model_name="tasktag",
            constraint=models.UniqueConstraint(
                condition=models.Q(("status", "active")),
                fields=("organization", "flow_execution", "task_name", "tag", "tag_type", "metadata_digest"),
                name="task_tag_live_once",
            ),
        ),
        migrations.RunSQL(SETTLE, migrations.RunSQL.noop),
        migrations.RunSQL("CALL flowplatform_protect('tags_tasktag');", "CALL flowplatform_unprotect('tags_tasktag');"),
    ]
