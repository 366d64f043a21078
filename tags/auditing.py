"""What the audit record says of a tag batch: one entry per organization, with what was added and removed."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from flowplatform.audit.authors import Author
from flowplatform.audit.vocabulary import Action
from flowplatform.audit.writing import Entry, Subject

NAMED = 8_000  # bytes that an entry names tags with; how many there were is always told, and the trail has them all
_EXECUTION = 100  # of them for an execution: its id, and what stands around it

Tag = dict[str, Any]  # as answers show it


def entries(action: Action, author: Author, *, added: Sequence[Tag], removed: Sequence[Tag]) -> Iterator[Entry]:
    """Yield the entries of a batch. A tag that it both added and removed is in both."""
    for organization_id in {tag["organization_id"] for tag in (*added, *removed)}:
        ours, gone = ([tag for tag in tags if tag["organization_id"] == organization_id] for tags in (added, removed))
        changed = [*ours, *gone]
        ids = {tag["flow_execution_id"] for tag in changed}
        text = _name(changed[0]) + (f" and {len(changed) - 1} more" if len(changed) > 1 else "")
        subject = Subject("flow_execution", str(*ids) if len(ids) == 1 else "", text)
        yield Entry(action, author, organization_id=organization_id, subject=subject, details=_details(ours, gone))


def _details(added: Sequence[Tag], removed: Sequence[Tag]) -> dict[str, Any]:
    """Count what was changed, and name it by execution, up to so many bytes."""
    names: dict[UUID, dict[str, list[str]]] = {}
    room, left_out = NAMED, 0
    for done, tags in (("added", added), ("removed", removed)):
        for tag in tags:
            name = _name(tag)
            room -= len(name.encode()) + (0 if tag["flow_execution_id"] in names else _EXECUTION)
            if room >= 0:
                names.setdefault(tag["flow_execution_id"], {}).setdefault(done, []).append(name)
            else:
                left_out += 1
    counts = {"added": len(added), "removed": len(removed), **({"not_named": left_out} if left_out else {})}
    return {**counts, "executions": {str(pk): changes for pk, changes in names.items()}}


def _name(tag: Tag) -> str:
    return f"{tag['task_name']} {tag['tag_type']}:{tag['tag']}"
