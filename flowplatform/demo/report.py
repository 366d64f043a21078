"""The report of one document check, as Markdown."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from flowplatform.demo.check import DocumentCheck

ROWS_SHOWN = 200


def render(check: DocumentCheck) -> str:
    """Return the whole report. What comes from documents and file names is text, never markup."""
    sections = [_head(check), _tasks(check)]
    if check.problems:
        sections.append(_list("Problems", check.problems))
    if check.links.broken:
        rows = [(each.document, each.line, each.target, each.reason) for each in check.links.broken]
        sections.append(_table("Broken links", ("Document", "Line", "Link", "Reason"), rows))
    if check.remarks:
        rows_of_remarks = [(each.document, each.line or "", each.remark) for each in check.remarks]
        sections.append(_table("Structure", ("Document", "Line", "Remark"), rows_of_remarks))
    if check.documents:
        sections += [_words(check), _links(check)]
    sections += _left_out(check)
    return "\n\n".join(sections) + "\n"


def _head(check: DocumentCheck) -> str:
    started = check.started_at.astimezone(UTC)
    seconds = (datetime.now(UTC) - started).total_seconds()
    folder = check.collection.folder if check.collection else check.library.root
    return "\n".join(
        [
            f"# Document check: {_verdict(check)}",
            "",
            f"- Execution: {check.execution_id}",
            f"- Folder: {_text(folder)}",
            f"- Started: {started:%Y-%m-%d %H:%M:%S} UTC; this report {seconds:.1f} s later",
        ]
    )


def _verdict(check: DocumentCheck) -> str:
    if any(outcome.status == "failed" for outcome in check.outcomes.values()):
        return "failed"
    return "needs work" if check.problems else "passed"


def _tasks(check: DocumentCheck) -> str:
    rows = [
        (name, outcome.status, f"{outcome.seconds * 1000:,.0f} ms", outcome.note)
        for name, outcome in check.outcomes.items()
    ]
    return _table("Tasks", ("Task", "Status", "Computed for", "Note"), rows)


def _words(check: DocumentCheck) -> str:
    words = check.words
    summary = (
        f"{words.words:,} words ({words.different_words:,} different ones) in {len(check.documents):,} documents:"
        f" {words.reading_minutes:.0f} minutes to read."
    )
    frequent = _table("Most frequent words", ("Word", "Times"), words.frequent, depth=3)
    longest = _table("Longest documents", ("Document", "Words"), words.longest, depth=3)
    return f"## Words\n\n{summary}\n\n{frequent}\n\n{longest}"


def _links(check: DocumentCheck) -> str:
    links = check.links
    return (
        f"## Links\n\n{links.checked:,} links inside the folder were checked, {len(links.broken):,} are broken."
        f" Not followed: {links.external:,} to other sites, {links.outside:,} out of the folder."
    )


def _left_out(check: DocumentCheck) -> list[str]:
    """Return the section on what was not read, if there is something."""
    if not check.collection:
        return []
    rows = [(each.path, each.reason) for each in [*check.collection.left_out, *check.unread]]
    others = f"{check.collection.other_files:,} files of other types were not looked at."
    return [f"{_table('Left out', ('Path', 'Reason'), rows)}\n\n{others}" if rows else f"## Left out\n\n{others}"]


def _list(title: str, items: Sequence[str]) -> str:
    return "\n".join([f"## {title}", "", *(f"- {_text(item)}" for item in items[:ROWS_SHOWN]), *_more(items)])


def _table(title: str, columns: Sequence[str], rows: Sequence[Iterable[object]], *, depth: int = 2) -> str:
    lines = [f"{'#' * depth} {title}", "", _row(columns), _row("---" for _ in columns)]
    lines += [_row(_text(cell) for cell in row) for row in rows[:ROWS_SHOWN]]
    return "\n".join([*lines, *_more(rows)])


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _more(items: Sequence[object]) -> list[str]:
    """Return the line that says how many did not fit."""
    hidden = len(items) - ROWS_SHOWN
    return ["", f"... and {hidden:,} more."] if hidden > 0 else []


def _text(value: object) -> str:
    """Return a value as text of one line in which Markdown finds nothing to interpret."""
    line = " ".join(str(value).encode("utf-8", "replace").decode("utf-8").split())
    printable = "".join(character if character.isprintable() else "�" for character in line)
    return "".join(f"\\{character}" if character in "\\`*[]<>|#" else character for character in printable)
