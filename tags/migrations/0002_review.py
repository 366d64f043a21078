"""For the review pages: what asks for a verdict, verdicts in the order in which they came and went, and what they settle.

A verdict that is given settles a waiting task, one that is taken back opens it again. Giving one never waits for a
status that comes at the same moment: that begins something new, or goes on, and has the last word.

Plans of a function stay in use while the table grows: hence without sequential scans.

Run it while the platform is stopped: nobody can write tags until its indexes are built.
"""

from django.db import migrations, models

SETTLE = """
CREATE FUNCTION tags_settle_waiting() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
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
            WHERE verdict.flow_execution_id = NEW.flow_execution_id AND verdict.task_name = NEW.task_name
              AND verdict.tag IN ('approved', 'rejected', 'reviewed') AND verdict.tag_type = 'review'
              AND verdict.status = 'active' AND verdict.created_at >= waiting.since
        )
        WHERE waiting.flow_execution_id = NEW.flow_execution_id AND waiting.task_name = NEW.task_name;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER task_tag_settles AFTER INSERT ON tags_tasktag
    FOR EACH ROW WHEN (
        NEW.tag_type = 'review' AND NEW.tag IN ('approved', 'rejected', 'reviewed') AND NEW.status = 'active'
    )
    EXECUTE FUNCTION tags_settle_waiting();
CREATE TRIGGER task_tag_opens_again AFTER UPDATE OF status ON tags_tasktag
    FOR EACH ROW WHEN (
        NEW.tag_type = 'review' AND NEW.tag IN ('approved', 'rejected', 'reviewed') AND NEW.status <> OLD.status
    )
    EXECUTE FUNCTION tags_settle_waiting();
UPDATE executions_waitingtask AS waiting SET is_decided = true WHERE EXISTS (
    SELECT FROM tags_tasktag AS verdict
    WHERE verdict.flow_execution_id = waiting.flow_execution_id AND verdict.task_name = waiting.task_name
      AND verdict.tag IN ('approved', 'rejected', 'reviewed') AND verdict.tag_type = 'review'
      AND verdict.status = 'active' AND verdict.created_at >= waiting.since
);
"""
FORGET = """
DROP TRIGGER task_tag_settles ON tags_tasktag;
DROP TRIGGER task_tag_opens_again ON tags_tasktag;
DROP FUNCTION tags_settle_waiting();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("executions", "0006_waiting_tasks"),
        ("tags", "0001_initial"),
    ]

    operations = [
        migrations.AddIndex(
            model_name="tasktag",
            index=models.Index(
                condition=models.Q(("status", "active"), ("tag", "requires_review")),
                fields=["organization", "created_at", "id"],
                name="task_tag_asks",
            ),
        ),
        migrations.AddIndex(
            model_name="tasktag",
            index=models.Index(
                condition=models.Q(("tag_type", "review")),
                fields=["organization", "created_at", "id"],
                name="task_tag_decided",
            ),
        ),
        migrations.AddIndex(
            model_name="tasktag",
            index=models.Index(
                condition=models.Q(("status", "deleted"), ("tag_type", "review")),
                fields=["organization", "updated_at", "id"],
                name="task_tag_taken_back",
            ),
        ),
        migrations.RunSQL(SETTLE, FORGET),
    ]
