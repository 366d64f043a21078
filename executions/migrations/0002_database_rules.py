"""What the database itself refuses, and how the derived state is stored: things Django's models cannot say."""

from typing import ClassVar

from django.db import migrations
from django.db.migrations.operations.base import Operation

REFUSE = """
CREATE FUNCTION executions_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only: its rows are never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER flow_version_is_immutable BEFORE UPDATE ON executions_flowversion
    FOR EACH ROW EXECUTE FUNCTION executions_refuse_change();
CREATE TRIGGER task_status_is_immutable BEFORE UPDATE ON executions_taskstatus
    FOR EACH ROW EXECUTE FUNCTION executions_refuse_change();
"""
ALLOW = """
DROP TRIGGER flow_version_is_immutable ON executions_flowversion;
DROP TRIGGER task_status_is_immutable ON executions_taskstatus;
DROP FUNCTION executions_refuse_change();
"""

# An execution's version is one of its own flow.
PIN = """
ALTER TABLE executions_flowexecution ADD CONSTRAINT flow_execution_pinned_version
    FOREIGN KEY (flow_id, flow_version) REFERENCES executions_flowversion (flow_id, number)
    DEFERRABLE INITIALLY DEFERRED;
"""
UNPIN = "ALTER TABLE executions_flowexecution DROP CONSTRAINT flow_execution_pinned_version;"

# Every status rewrites a row of the derived state: room on its page keeps the update off the indexes.
ROOM = "ALTER TABLE executions_taskoutput SET (fillfactor = 75);"
NO_ROOM = "ALTER TABLE executions_taskoutput RESET (fillfactor);"


class Migration(migrations.Migration):
    """Append-only tables, the pinned version and the fillfactor."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("executions", "0001_initial")]
    operations: ClassVar[list[Operation]] = [
        migrations.RunSQL(REFUSE, ALLOW),
        migrations.RunSQL(PIN, UNPIN),
        migrations.RunSQL(ROOM, NO_ROOM),
    ]
