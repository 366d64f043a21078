"""Row-level security for stored answers: their owner is an organization, or somebody who acts in several."""

from django.db import migrations

PROTECT = """
ALTER TABLE idempotency_idempotencykey ENABLE ROW LEVEL SECURITY;
ALTER TABLE idempotency_idempotencykey FORCE ROW LEVEL SECURITY;
CREATE POLICY tenant ON idempotency_idempotencykey USING (
    (SELECT flowplatform_shows_everybody()) OR owner = ANY ((SELECT flowplatform_shown())::text[])
);
"""


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_row_security"),
        ("idempotency", "0001_initial"),
    ]

    operations = [
        migrations.RunSQL(PROTECT, "CALL flowplatform_unprotect('idempotency_idempotencykey');"),
    ]
