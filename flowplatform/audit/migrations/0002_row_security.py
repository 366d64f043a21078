"""Row-level security for the audit record: everybody adds to it, and whoever reads sees what is of their organization.

What concerns no organization, such as a sign-in that failed, is shown to those who see everybody's.
"""

from django.db import migrations

PROTECT = """
ALTER TABLE audit_record ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_record FORCE ROW LEVEL SECURITY;
CREATE POLICY written ON audit_record FOR INSERT WITH CHECK (true);
CREATE POLICY tenant ON audit_record FOR SELECT USING (
    (SELECT flowplatform_shows_everybody()) OR organization_id = ANY ((SELECT flowplatform_shown())::uuid[])
);
REVOKE UPDATE, DELETE ON audit_record FROM flowplatform_application;
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT inhrelid FROM pg_inherits WHERE inhparent = 'audit_record'::regclass LOOP
        EXECUTE format('REVOKE ALL ON %s FROM flowplatform_application', part);
    END LOOP;
END $$;
"""
UNPROTECT = "DROP POLICY written ON audit_record; CALL flowplatform_unprotect('audit_record');"


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_row_security"),
        ("audit", "0001_initial"),
    ]

    operations = [migrations.RunSQL(PROTECT, UNPROTECT)]
