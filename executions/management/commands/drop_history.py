"""`manage.py drop_history`: removes old status history by hand, as the beat does by `HISTORY_RETENTION_DAYS`."""

from argparse import ArgumentTypeError
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.template.defaultfilters import filesizeformat
from django.utils import timezone

from executions.history import drop_partitions, old_partitions
from flowplatform.audit.authors import Author
from flowplatform.monthly import Partition, TableBusyError


def _day(text: str) -> datetime:
    try:
        day = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ArgumentTypeError("a day is written as 2026-01-31") from None
    if day > timezone.now():
        raise ArgumentTypeError("that day is yet to come")
    return day


class Command(BaseCommand):
    """Drop the months of the status history that lie wholly before a day."""

    help = (
        "Drop the months of the status history that lie wholly before a day (in UTC). The state of the tasks stays. "
        "Numbers of rows are estimates."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--before", type=_day, required=True, metavar="YYYY-MM-DD", help="the first day to keep")
        parser.add_argument("--dry-run", action="store_true", help="only say what would be dropped")

    def handle(self, *args: Any, **options: Any) -> None:
        before, count = options["before"], 0
        try:
            if options["dry_run"]:
                for partition in old_partitions(before):
                    count += self._tell("would drop", partition)
            else:
                for partition in drop_partitions(before, author=Author("command:drop_history")):
                    count += self._tell("dropped", partition)
        except TableBusyError:
            raise CommandError("The history is in use, by a dump or a long transaction: try again later.") from None
        if not count:
            self.stdout.write(f"No month of the history lies wholly before {before:%Y-%m-%d}.")

    def _tell(self, what: str, partition: Partition) -> int:
        size = filesizeformat(partition.size).replace("\xa0", " ")
        self.stdout.write(f"{what} {partition.name}: about {partition.rows} rows, {size}")
        return 1
