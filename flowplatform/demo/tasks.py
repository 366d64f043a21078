"""The flow "Document check": its tasks, what each depends on and what each does."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flowplatform.demo.check import DocumentCheck
from flowplatform.demo.documents import CheckError, Document, collect, read
from flowplatform.demo.links import check_links
from flowplatform.demo.report import render
from flowplatform.demo.structure import check_structure
from flowplatform.demo.words import count_words

FLOW_NAME = "Document check"
FLOW_DESCRIPTION = (
    "Checks a folder of documents: words, links inside the folder, structure; ends with a verdict and a report."
    ' The input {"folder": "name"} chooses a folder inside the worker\'s input folder.'
)


@dataclass(frozen=True)
class Task:
    """A task of the flow. `work` returns a note on what came of it, or raises `CheckError`.

    A task is skipped if one before it failed, unless it works `even_after_failure`.
    """

    name: str
    title: str
    depends_on: tuple[str, ...]
    work: Callable[[DocumentCheck], str]
    even_after_failure: bool = False


def collect_documents(check: DocumentCheck) -> str:
    """Find the documents in the chosen folder."""
    check.collection = collect(check.library, check.folder)
    return f"{_count(len(check.collection.files), 'document')}, {len(check.collection.left_out)} left out"


def read_documents(check: DocumentCheck) -> str:
    """Read and parse what was collected."""
    assert check.collection
    root = check.library.root.resolve()
    for path in check.collection.files:
        document = read(path, root)
        if isinstance(document, Document):
            check.documents.append(document)
        else:
            check.unread.append(document)
    if not check.documents:
        raise CheckError("none of the documents could be read")
    size = sum(document.size for document in check.documents)
    return f"{_count(len(check.documents), 'document')} read, {size:,} bytes"


def count_their_words(check: DocumentCheck) -> str:
    """Compute the word statistics."""
    check.words = count_words(check.documents)
    return f"{check.words.words:,} words, {check.words.reading_minutes:.0f} min to read"


def check_their_links(check: DocumentCheck) -> str:
    """Follow every link that stays inside the folder."""
    check.links = check_links(check.documents, check.library.root.resolve())
    return f"{_count(check.links.checked, 'link')} checked, {len(check.links.broken)} broken"


def check_their_structure(check: DocumentCheck) -> str:
    """Look at titles and headings."""
    check.remarks = check_structure(check.documents)
    return _count(len(check.remarks), "remark")


def validate(check: DocumentCheck) -> str:
    """Reach the verdict: unreadable or oversized documents, other encodings than UTF-8 and broken links count."""
    assert check.collection
    left_out = [item for item in check.collection.left_out if not item.expected]
    check.problems = [f"{item.path}: {item.reason}" for item in [*left_out, *check.unread]]
    check.problems += [f"{each.name}: {each.encoding_problem}" for each in check.documents if each.encoding_problem]
    if check.links.broken:
        check.problems.append(_count(len(check.links.broken), "broken link"))
    return _count(len(check.problems), "problem") if check.problems else "passed"


def write_report(check: DocumentCheck) -> str:
    """Write the report; a reader of the folder never sees half of one."""
    check.reports.mkdir(parents=True, exist_ok=True)
    unfinished = check.report_path.with_suffix(".unfinished")
    unfinished.write_text(render(check), encoding="utf-8")
    unfinished.replace(check.report_path)
    return str(check.report_path)


TASKS = (
    Task("collect", "Collect documents", (), collect_documents),
    Task("read", "Read and parse", ("collect",), read_documents),
    Task("word_statistics", "Word statistics", ("read",), count_their_words),
    Task("link_check", "Link check", ("read",), check_their_links),
    Task("structure_check", "Structure check", ("read",), check_their_structure),
    Task("validate", "Verdict", ("word_statistics", "link_check", "structure_check"), validate),
    Task("report", "Write the report", ("validate",), write_report, even_after_failure=True),
)


def flow_definition() -> dict[str, Any]:
    """Return the definition as the API takes it."""
    return {"tasks": [{"name": task.name, "title": task.title, "depends_on": list(task.depends_on)} for task in TASKS]}


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
