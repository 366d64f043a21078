"""How long the audit record is kept: its months are partitions, made ahead and dropped by `AUDIT_RETENTION_DAYS`."""

from collections.abc import Iterator
from datetime import datetime

from flowplatform.audit.authors import Author
from flowplatform.audit.vocabulary import Action
from flowplatform.audit.writing import drop_recorded
from flowplatform.monthly import MonthlyTable, Partition

RECORD = MonthlyTable(
    "audit_record",
    guard="audit_record_is_append_only",
    # A row's trigger is every partition's, a statement's is not.
    finish="""
        CREATE TRIGGER audit_record_is_kept BEFORE TRUNCATE ON {name} EXECUTE FUNCTION audit_refuse_change()
    """,
)


def drop_old_records(before: datetime, *, author: Author) -> Iterator[Partition]:
    """Drop the months that lie wholly before a moment; yield each when it is gone. That is recorded, too.

    Raises TableBusyError.
    """
    return drop_recorded(RECORD, before, Action.AUDIT_DROPPED, author)
