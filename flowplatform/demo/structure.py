"""The structure check: empty documents, missing and duplicate titles, skipped and repeated headings."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from flowplatform.demo.documents import Document
from flowplatform.demo.markup import Content, Heading

_WITHOUT_HEADINGS = (".txt",)


@dataclass(frozen=True)
class StructureRemark:
    """Something about a document's structure that a reader would stumble over. Line 0 is the whole document."""

    document: str
    line: int
    remark: str


def check_structure(documents: Sequence[Document]) -> list[StructureRemark]:
    """Return the remarks about the documents, document by document."""
    remarks = [remark for document in documents for remark in _check_document(document.name, document.content)]
    return remarks + list(_duplicate_titles(documents))


def _check_document(name: str, content: Content) -> Iterator[StructureRemark]:
    if not content.text.strip():
        yield StructureRemark(name, 0, "empty document")
    elif not name.lower().endswith(_WITHOUT_HEADINGS):
        yield from _check_title(name, content.headings)
        yield from _check_levels(name, content.headings)
        yield from _repeated_headings(name, content.headings)


def _check_title(name: str, headings: Sequence[Heading]) -> Iterator[StructureRemark]:
    titles = [heading for heading in headings if heading.level == 1]
    if not titles:
        yield StructureRemark(name, 0, "no title (heading of level 1)")
    for extra in titles[1:]:
        yield StructureRemark(name, extra.line, f'a second title: "{extra.text}"')


def _check_levels(name: str, headings: Sequence[Heading]) -> Iterator[StructureRemark]:
    for above, below in pairwise(headings):
        if below.level > above.level + 1:
            jump = f"from level {above.level} to level {below.level}"
            yield StructureRemark(name, below.line, f'the heading "{below.text}" jumps {jump}')


def _repeated_headings(name: str, headings: Sequence[Heading]) -> Iterator[StructureRemark]:
    """Find equal headings under the same parent; "Added" below each release of a changelog is none."""
    seen: set[tuple[str, ...]] = set()
    trail: list[Heading] = []
    for heading in headings:
        trail = [*(parent for parent in trail if parent.level < heading.level), heading]
        place = tuple(parent.text for parent in trail)
        if place in seen:
            yield StructureRemark(name, heading.line, f'the heading "{heading.text}" is repeated')
        seen.add(place)


def _duplicate_titles(documents: Sequence[Document]) -> Iterator[StructureRemark]:
    names_of: defaultdict[str, list[str]] = defaultdict(list)
    for document in documents:
        title = next((heading.text for heading in document.content.headings if heading.level == 1), None)
        if title:
            names_of[title].append(document.name)
    for title, names in names_of.items():
        for name in names[1:]:
            yield StructureRemark(name, 0, f'the same title as {names[0]}: "{title}"')
