"""The link check: do relative links, anchors and images of Markdown and HTML lead somewhere inside the folder?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flowplatform.demo.documents import Document
from flowplatform.demo.markup import Link


@dataclass(frozen=True)
class LinkProblem:
    """A link that leads nowhere."""

    document: str
    line: int
    target: str
    reason: str


@dataclass
class LinkFindings:
    """What the link check found: how many links of which kind, and the broken ones."""

    checked: int = 0
    external: int = 0
    outside: int = 0
    broken: list[LinkProblem] = field(default_factory=list)


def check_links(documents: Sequence[Document], root: Path) -> LinkFindings:
    """Check every link of the documents. Addresses with a scheme or host are counted, never fetched."""
    findings = LinkFindings()
    anchors = {document.path: document.content.anchors for document in documents}
    for document in documents:
        for link in document.content.links:
            reason = _check(link, document, root, anchors, findings)
            if reason:
                findings.broken.append(LinkProblem(document.name, link.line, link.target, reason))
    return findings


def _check(
    link: Link, document: Document, root: Path, anchors: Mapping[Path, set[str]], findings: LinkFindings
) -> str | None:
    """Count one link and return why it is broken, `None` if it is not."""
    try:
        parts = urlsplit(link.target)
    except ValueError as error:  # such as an unclosed [ of an IPv6 address
        return f"not an address: {error}"
    if parts.scheme or parts.netloc:
        findings.external += 1
        return None
    try:
        target = _resolved(unquote(parts.path), document.path, root)
        if not target.is_relative_to(root):  # not ours to look at
            findings.outside += 1
            return None
        findings.checked += 1
        if not target.exists():
            return "no such file"
    except (OSError, ValueError, RuntimeError):  # too long a name, a NUL character, links in a circle
        return "no such file"
    if link.is_image and not target.is_file():
        return "an image must be a file"
    return _check_anchor(unquote(parts.fragment), anchors.get(target))


def _resolved(path: str, document: Path, root: Path) -> Path:
    """Return the file that a link's path names; a leading slash stands for the root of the folder."""
    if not path:
        return document
    return (root / path.lstrip("/") if path.startswith("/") else document.parent / path).resolve()


def _check_anchor(fragment: str, anchors: set[str] | None) -> str | None:
    """Return why a fragment is broken. Only documents that were read have known anchors."""
    if anchors is None or fragment in ("", "top") or fragment.startswith(":~:"):  # a text fragment of browsers
        return None
    return None if fragment in anchors else f"no heading or anchor #{fragment}"
