"""How long the audit record is kept: its months are partitions, made ahead and dropped by `AUDIT_RETENTION_DAYS`."""

from collections.abc import Iterator
from datetime import datetime

from flowplatform.audit.authors import Author
from flowplatform.audit.writing import drop_recorded
from flowplatform.monthly import MonthlyTable, Partition

RECORD = MonthlyTable("audit_record", refuses_deletes=True)


def drop_old_records(before: datetime, *, author: Author) -> Iterator[Partition]:
    """Drop the months that lie wholly before a moment; yield each when it is gone. That is recorded, too.

    Raises TableBusyError.
    """
    return drop_recorded(RECORD, before, author)
