"""Row-level security: the role of the servers, its rights, and how a table is protected. The other apps protect theirs.

A policy compares a row's organization with the setting `flowplatform.organizations` of the transaction: `*`, or ids as
an array; without it nothing is shown. The subqueries make the database read the setting once per statement.

Users and service tokens are not protected: whose they are shows only when they are found. A token's row has its hash.
"""

from typing import ClassVar

from django.db import migrations
from django.db.migrations.operations.base import Operation

ROLE = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'flowplatform_application') THEN
        CREATE ROLE flowplatform_application NOLOGIN;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'the role flowplatform_application is missing, and this role may not create it'
        USING HINT = 'As a superuser: CREATE ROLE flowplatform_application NOLOGIN', ERRCODE = 'insufficient_privilege';
END $$;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO flowplatform_application;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO flowplatform_application;
ALTER DEFAULT PRIVILEGES IN SCHEMA public
    GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO flowplatform_application;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO flowplatform_application;
REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM flowplatform_application;
"""
NO_ROLE = """
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON TABLES FROM flowplatform_application;
ALTER DEFAULT PRIVILEGES IN SCHEMA public REVOKE ALL ON SEQUENCES FROM flowplatform_application;
REVOKE ALL ON ALL TABLES IN SCHEMA public FROM flowplatform_application;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA public FROM flowplatform_application;
"""

PROTECT = """
CREATE FUNCTION flowplatform_shows_everybody() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT current_setting('flowplatform.organizations', true) = '*'
$$;
CREATE FUNCTION flowplatform_shown() RETURNS uuid[] LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT CASE
        WHEN current_setting('flowplatform.organizations', true) LIKE '{%'
        THEN current_setting('flowplatform.organizations')::uuid[]
        ELSE '{}'
    END
$$;
CREATE PROCEDURE flowplatform_protect(protected regclass, organization name DEFAULT 'organization_id')
LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', protected);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', protected);
    EXECUTE format(
        'CREATE POLICY tenant ON %s USING ('
        '(SELECT flowplatform_shows_everybody()) OR %I = ANY ((SELECT flowplatform_shown())::uuid[]))',
        protected, organization
    );
END $$;
CREATE PROCEDURE flowplatform_unprotect(protected regclass) LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('DROP POLICY tenant ON %s', protected);
    EXECUTE format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY', protected);
    EXECUTE format('ALTER TABLE %s DISABLE ROW LEVEL SECURITY', protected);
END $$;
CALL flowplatform_protect('accounts_organization', 'id');
CALL flowplatform_protect('accounts_membership');
CALL flowplatform_protect('accounts_serviceaccount');
"""
UNPROTECT = """
CALL flowplatform_unprotect('accounts_serviceaccount');
CALL flowplatform_unprotect('accounts_membership');
CALL flowplatform_unprotect('accounts_organization');
DROP PROCEDURE flowplatform_unprotect;
DROP PROCEDURE flowplatform_protect;
DROP FUNCTION flowplatform_shown;
DROP FUNCTION flowplatform_shows_everybody;
"""


# The servers own nothing, and yet make and drop the months of a partitioned table: by these functions of the owner's.
# Months are those of UTC; the default partition has the name of its table with `_default` behind it.
PARTITIONS = """
CREATE FUNCTION flowplatform_partition_step(parent regclass, step text, month timestamptz)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    begins timestamp := date_trunc('month', month AT TIME ZONE 'UTC');
    ends timestamptz := (begins + interval '1 month') AT TIME ZONE 'UTC';
    part text := parent || to_char(begins, '_YYYY_MM');
    of_statements text;
    in_month text := format('created_at >= %L AND created_at < %L', begins AT TIME ZONE 'UTC', ends);
BEGIN
    PERFORM FROM pg_class WHERE oid = parent AND relkind = 'p' AND relowner = current_user::regrole;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% has no months', parent;
    END IF;
    CASE step
    WHEN 'hold' THEN -- against our like only; ONLY: else the partitions too
        EXECUTE format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', parent);
    WHEN 'hold_default' THEN
        EXECUTE format('LOCK TABLE ONLY %s_default IN ACCESS EXCLUSIVE MODE', parent);
    WHEN 'create' THEN -- the check spares the new table a scan when it is attached
        EXECUTE format(
            'CREATE TABLE %I (LIKE %s INCLUDING ALL EXCLUDING IDENTITY, CONSTRAINT of_month CHECK (%s))',
            part, parent, in_month
        );
        EXECUTE format('REVOKE ALL ON %I FROM flowplatform_application', part);
    WHEN 'move' THEN
        EXECUTE format(
            'WITH moved AS (DELETE FROM %s_default WHERE %s RETURNING *) INSERT INTO %I SELECT * FROM moved ORDER BY 1',
            parent, in_month, part
        );
    WHEN 'move_rest' THEN -- past the triggers of a table that refuses every DELETE; the default partition is locked
        EXECUTE format('ALTER TABLE %s_default DISABLE TRIGGER USER', parent);
        PERFORM flowplatform_partition_step(parent, 'move', month);
        EXECUTE format('ALTER TABLE %s_default ENABLE TRIGGER USER', parent);
    WHEN 'attach' THEN
        EXECUTE format(
            'ALTER TABLE %s ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            parent, part, begins AT TIME ZONE 'UTC', ends
        );
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT of_month', part);
        FOR of_statements IN -- those of rows come with the attachment
            SELECT pg_get_triggerdef(oid) FROM pg_trigger
            WHERE tgrelid = (parent || '_default')::regclass AND NOT tgisinternal AND tgtype & 1 = 0
        LOOP
            EXECUTE replace(of_statements, parent || '_default', part);
        END LOOP;
    END CASE;
END $$;
CREATE FUNCTION flowplatform_misplaced_months(parent regclass)
RETURNS SETOF timestamptz LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    RETURN QUERY EXECUTE format('SELECT DISTINCT date_trunc(''month'', created_at, ''UTC'') FROM %s_default', parent);
END $$;
CREATE FUNCTION flowplatform_drop_partition(parent regclass, part text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
    PERFORM FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = parent AND inhrelid = to_regclass(part) AND relowner = current_user::regrole
      AND (regexp_match(pg_get_expr(relpartbound, inhrelid), 'TO \\(''(.+?)''\\)'))[1]::timestamptz <= now();
    IF FOUND THEN -- whoever drops it twice at once finds it gone
        EXECUTE format('DROP TABLE %s', to_regclass(part));
    END IF;
END $$;
REVOKE ALL ON FUNCTION flowplatform_partition_step, flowplatform_misplaced_months, flowplatform_drop_partition FROM public;
GRANT EXECUTE ON FUNCTION
    flowplatform_partition_step, flowplatform_misplaced_months, flowplatform_drop_partition
    TO flowplatform_application;
"""
NO_PARTITIONS = """
DROP FUNCTION flowplatform_drop_partition;
DROP FUNCTION flowplatform_misplaced_months;
DROP FUNCTION flowplatform_partition_step;
"""


class Migration(migrations.Migration):
    """The role, the tables of this app, and what the role may do to partitions."""

    dependencies: ClassVar[list[tuple[str, str]]] = [("accounts", "0001_initial")]
    operations: ClassVar[list[Operation]] = [
        migrations.RunSQL(ROLE, NO_ROLE),
        migrations.RunSQL(PROTECT, UNPROTECT),
        migrations.RunSQL(PARTITIONS, NO_PARTITIONS),
    ]
