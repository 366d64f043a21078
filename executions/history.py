"""The status history, whose months are partitions (`flowplatform/monthly.py`): made ahead, dropped when they are old.

What remains when history was dropped: outputs and attempts, as they are; nothing is calculated anew. A task without any
history left is like one that only ever reported attempts: these decide its state from then on, and queueing it appends
no row. If the `queued` of a stale task is gone before the task went on, the task stays stale until it is queued again.
"""

from collections.abc import Iterator
from datetime import datetime

from flowplatform.audit.authors import Author
from flowplatform.audit.writing import drop_recorded
from flowplatform.monthly import MonthlyTable, Partition

_HISTORY = MonthlyTable("executions_taskstatus")

partitions = _HISTORY.partitions
add_partitions = _HISTORY.add
old_partitions = _HISTORY.old


def drop_partitions(before: datetime, *, author: Author) -> Iterator[Partition]:
    """Drop the partitions that lie wholly before a moment; yield each when it is gone. Raises TableBusyError.

    Each drop is in the audit record, by `author`.
    """
    return drop_recorded(_HISTORY, before, author)
