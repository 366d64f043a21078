"""What lets the servers remove the history of a deleted run, and of no other: they may not delete from it themselves.

The function works as the owner of the tables, whom the policies may not bind, so it asks what is shown by itself.
"""

from typing import ClassVar

from django.db import migrations
from django.db.migrations.operations.base import Operation

FORGET = """
CREATE FUNCTION executions_forget_history(forgotten uuid)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM FROM executions_flowexecution
    WHERE id = forgotten AND status = 'deleted'
      AND (flowplatform_shows_everybody() OR organization_id = ANY (flowplatform_shown()));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'run % was not deleted', forgotten;
    END IF;
    DELETE FROM executions_taskstatus WHERE flow_execution_id = forgotten;
END $$;
REVOKE ALL ON FUNCTION executions_forget_history FROM public;
GRANT EXECUTE ON FUNCTION executions_forget_history TO flowplatform_application;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("executions", "0007_row_security")]
    operations: ClassVar[list[Operation]] = [
        migrations.RunSQL(FORGET, "DROP FUNCTION executions_forget_history;"),
    ]
