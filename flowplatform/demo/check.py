"""One document check: what its tasks were given and what they found, from the folder to the verdict."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from uuid import UUID

from flowplatform.demo.documents import Collection, Document, LeftOut, Library
from flowplatform.demo.links import LinkFindings
from flowplatform.demo.structure import StructureRemark
from flowplatform.demo.words import WordStatistics


@dataclass(frozen=True)
class Outcome:
    """How a task ended: completed, failed or skipped; `note` says what came of it, `seconds` how long it computed."""

    status: str
    note: str
    seconds: float = 0.0


@dataclass
class DocumentCheck:
    """What one execution works on, how its tasks ended (filled by the run), and what they found.

    Each of the other fields is filled by one task and read by later ones: branches work at the same time, so no two
    tasks may fill the same field.
    """

    execution_id: UUID
    library: Library
    folder: object
    reports: Path
    started_at: datetime

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    collection: Collection | None = None
    documents: list[Document] = field(default_factory=list)
    unread: list[LeftOut] = field(default_factory=list)
    words: WordStatistics = field(default_factory=WordStatistics)
    links: LinkFindings = field(default_factory=LinkFindings)
    remarks: list[StructureRemark] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def report_path(self) -> Path:
        """Where the report of this execution goes."""
        return self.reports / f"{self.execution_id}.md"
