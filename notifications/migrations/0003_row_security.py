"""Row-level security for events and streams, and the organization first in the unique key of the log."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_row_security"),
        ("notifications", "0002_organization_changes"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="event", name="event_once"),
        migrations.AddConstraint(
            model_name="event",
            constraint=models.UniqueConstraint(
                condition=models.Q(("offset__isnull", False)),
                fields=("organization_id", "flow_id", "offset"),
                name="event_once",
            ),
        ),
        migrations.RunSQL(
            "CALL flowplatform_protect('notifications_event'); CALL flowplatform_protect('notifications_stream');",
            "CALL flowplatform_unprotect('notifications_stream'); CALL flowplatform_unprotect('notifications_event');",
        ),
    ]
