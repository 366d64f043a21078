"""`manage.py after_restore`: make a restored database one that clients can trust again. docs/backup.md says when."""

from typing import Any

from django.contrib.sessions.models import Session
from django.core.management.base import BaseCommand, CommandParser
from django.db import connection, transaction

from flowplatform.audit.authors import Author
from flowplatform.audit.vocabulary import Action
from flowplatform.audit.writing import Entry, record

# What was numbered after the backup is gone, and its numbers are given a second time: to other events. A new epoch
# tells every client that what it remembers is worth nothing. The transactions of `changed_in` were another server's.
_BEGIN_ANEW = "UPDATE notifications_stream SET epoch = gen_random_uuid(), changed_in = 0"


class Command(BaseCommand):
    """Begins every stream anew, and signs everybody out."""

    help = (
        "Run once after a backup was restored, before anything is served: gives every event stream a new epoch, so"
        " that clients fetch everything again, and ends all sessions, because a sign-out may be among what was lost."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--keep-sessions", action="store_true", help="leave people signed in")

    @transaction.atomic
    def handle(self, *args: Any, **options: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(_BEGIN_ANEW)
            streams = cursor.rowcount
        record(Entry(Action.DATA_RESTORED, Author("command:after_restore"), details={"streams": streams}))
        ended = 0 if options["keep_sessions"] else Session.objects.all().delete()[0]
        self.stdout.write(f"{streams} streams begin anew, {ended} sessions ended.")
        self.stdout.write(
            "Revoked tokens, removed members and changed passwords are as they were at the time of the backup: what was"
            " taken away since then has to be taken away again."
        )
