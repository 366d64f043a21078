"""What the audit record had gaps for: changes of it that reached no row, months that are dropped, and three more actions.

Row-level security has no policy for UPDATE and DELETE of the record, so they reached no row: nothing changed, and nobody
was told why. And a month was dropped by a function that anybody with the servers' role may call, but recorded by ours:
now whoever drops one leaves a record, in a month that cannot be dropped.
"""

from typing import ClassVar

from django.db import migrations, models
from django.db.migrations.operations.base import Operation

REFUSE = """
CREATE TRIGGER audit_record_refuses BEFORE UPDATE OR DELETE ON audit_record
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
"""
ALLOW = "DROP TRIGGER audit_record_refuses ON audit_record;"

DROPPED = """
CREATE OR REPLACE FUNCTION flowplatform_drop_partition(parent regclass, part text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    about jsonb;
BEGIN
    SELECT jsonb_build_object(
        'rows_about', greatest(reltuples, pg_stat_get_live_tuples(pg_class.oid), 0)::bigint,
        'bytes', pg_total_relation_size(pg_class.oid),
        'until', upper_bound
    ) INTO about
    FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid, LATERAL (
        SELECT (regexp_match(pg_get_expr(relpartbound, inhrelid), 'TO \\(''(.+?)''\\)'))[1]::timestamptz AS upper_bound
    ) AS bounds
    WHERE inhparent = parent AND inhrelid = to_regclass(part) AND relowner = current_user::regrole
      AND upper_bound <= now();
    IF FOUND THEN -- whoever drops it twice at once finds it gone
        EXECUTE format('DROP TABLE %s', to_regclass(part));
        PERFORM audit_add(
            CASE parent::text WHEN 'audit_record' THEN 'audit.dropped' ELSE 'history.dropped' END,
            NULL, 'partition', '', part, about
        );
    END IF;
END $$;
"""

_ACTIONS = [
    "sign_in",
    "sign_in.lockout",
    "sign_in.unlocked",
    "sign_out",
    "token.created",
    "token.changed",
    "token.revoked",
    "token.deleted",
    "service_account.created",
    "service_account.changed",
    "service_account.deleted",
    "member.added",
    "member.changed",
    "member.removed",
    "user.created",
    "user.changed",
    "user.deleted",
    "user.password_changed",
    "staff_group.created",
    "staff_group.changed",
    "staff_group.deleted",
    "organization.created",
    "organization.changed",
    "organization.deleted",
    "access.refused",
    "access.unknown",
    "credential.refused",
    "tags.changed",
    "tags.restored",
    "events.retried",
    "data.exported",
    "data.removed",
    "data.restored",
    "history.dropped",
    "audit.dropped",
]


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("audit", "0002_row_security")]
    operations: ClassVar[list[Operation]] = [
        migrations.RunSQL(REFUSE, ALLOW),
        migrations.RunSQL(DROPPED, migrations.RunSQL.noop),
        migrations.RemoveConstraint("record", "audit_record_action_known"),
        migrations.AddConstraint(
            "record",
            models.CheckConstraint(condition=models.Q(action__in=_ACTIONS), name="audit_record_action_known"),
        ),
    ]
