"""UPDATE and DELETE of the audit record are refused as statements, too, and not only for the rows that they would reach.

Since row-level security has no policy for either, they reached no row: nothing changed, and nobody was told why.
"""

from typing import ClassVar

from django.db import migrations

REFUSE = """
CREATE TRIGGER audit_record_refuses BEFORE UPDATE OR DELETE ON audit_record
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();
"""
ALLOW = "DROP TRIGGER audit_record_refuses ON audit_record;"


class Migration(migrations.Migration):
    dependencies: ClassVar[list[tuple[str, str]]] = [("audit", "0002_row_security")]
    operations: ClassVar[list[migrations.RunSQL]] = [migrations.RunSQL(REFUSE, ALLOW)]
