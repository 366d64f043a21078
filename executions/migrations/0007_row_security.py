"""Row-level security for everything about runs, and the organization first in every unique key.

A key that begins with something else tells by its refusal that another organization has such a row.

Run it while the platform is stopped: it builds the unique indexes of outputs and attempts anew.
"""

import django.db.models.deletion
from django.db import migrations, models

# A version is its flow's, for good; the trigger refuses even this.
ORGANIZATION = """
ALTER TABLE executions_flowversion ADD COLUMN organization_id uuid;
ALTER TABLE executions_flowversion DISABLE TRIGGER flow_version_is_immutable;
UPDATE executions_flowversion AS version SET organization_id = flow.organization_id
FROM executions_flow AS flow WHERE flow.id = version.flow_id;
ALTER TABLE executions_flowversion ENABLE TRIGGER flow_version_is_immutable;
ALTER TABLE executions_flowversion
    ALTER COLUMN organization_id SET NOT NULL,
    ADD CONSTRAINT executions_flowversion_organization
    FOREIGN KEY (organization_id) REFERENCES accounts_organization (id) DEFERRABLE INITIALLY DEFERRED;
"""
NO_ORGANIZATION = "ALTER TABLE executions_flowversion DROP COLUMN organization_id;"

UNPIN = "ALTER TABLE executions_flowexecution DROP CONSTRAINT flow_execution_pinned_version;"
PIN = """
ALTER TABLE executions_flowexecution ADD CONSTRAINT flow_execution_pinned_version
    FOREIGN KEY (organization_id, flow_id, flow_version)
    REFERENCES executions_flowversion (organization_id, flow_id, number) DEFERRABLE INITIALLY DEFERRED;
"""
PIN_BEFORE = """
ALTER TABLE executions_flowexecution ADD CONSTRAINT flow_execution_pinned_version
    FOREIGN KEY (flow_id, flow_version) REFERENCES executions_flowversion (flow_id, number)
    DEFERRABLE INITIALLY DEFERRED;
"""

# The months of the history are reached through their parent only, which asks the policy.
PROTECT = """
CALL flowplatform_protect('executions_flow');
CALL flowplatform_protect('executions_flowversion');
CALL flowplatform_protect('executions_flowexecution');
CALL flowplatform_protect('executions_taskstatus');
CALL flowplatform_protect('executions_taskexecution');
CALL flowplatform_protect('executions_taskoutput');
CALL flowplatform_protect('executions_waitingtask');
REVOKE UPDATE ON executions_flowversion FROM flowplatform_application;
REVOKE UPDATE, DELETE ON executions_taskstatus FROM flowplatform_application;
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'executions_taskstatus'::regclass LOOP
        EXECUTE format('REVOKE ALL ON %s FROM flowplatform_application', part);
    END LOOP;
END $$;
"""
UNPROTECT = """
CALL flowplatform_unprotect('executions_waitingtask');
CALL flowplatform_unprotect('executions_taskoutput');
CALL flowplatform_unprotect('executions_taskexecution');
CALL flowplatform_unprotect('executions_taskstatus');
CALL flowplatform_unprotect('executions_flowexecution');
CALL flowplatform_unprotect('executions_flowversion');
CALL flowplatform_unprotect('executions_flow');
"""


def led_by_organization(model: str, name: str, *fields: str) -> list[migrations.operations.base.Operation]:
    """Return what makes the organization the first column of a unique key."""
    constraint = models.UniqueConstraint(fields=("organization", *fields), name=name)
    return [
        migrations.RemoveConstraint(model_name=model, name=name),
        migrations.AddConstraint(model_name=model, constraint=constraint),
    ]


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_row_security"),
        ("executions", "0006_waiting_tasks"),
    ]

    operations = [
        migrations.RunSQL(
            ORGANIZATION,
            NO_ORGANIZATION,
            state_operations=[
                migrations.AddField(
                    model_name="flowversion",
                    name="organization",
                    field=models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.organization",
                    ),
                )
            ],
        ),
        migrations.RunSQL(UNPIN, PIN_BEFORE),
        *led_by_organization("flowversion", "flow_version_once", "flow", "number"),
        *led_by_organization("flowexecution", "flow_execution_run_once", "flow", "run_number"),
        *led_by_organization(
            "taskexecution", "task_execution_once", "flow_execution", "task_name", "task_execution_idx"
        ),
        # As selective as the unique key now, and in the order of lists.
        migrations.RemoveIndex(model_name="taskexecution", name="task_execution_of_task"),
        migrations.AddIndex(
            model_name="taskexecution",
            index=models.Index(
                fields=["organization", "flow_execution", "task_name", "id"], name="task_execution_of_task"
            ),
        ),
        *led_by_organization("taskoutput", "task_output_once", "flow_execution", "task_name"),
        migrations.RunSQL(PIN, UNPIN),
        migrations.RunSQL(PROTECT, UNPROTECT),
    ]
