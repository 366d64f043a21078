"""Parsing documents: the headings, links, anchors and plain text of Markdown, HTML, reStructuredText and text."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise

from markdown_it import MarkdownIt
from markdown_it.token import Token

_FRONT_MATTER = re.compile(r"\A---\n.*?^---$", re.DOTALL | re.MULTILINE)
_NOT_IN_SLUG = re.compile(r"[^\w\- ]")
_UNDERLINE = re.compile(r"([!-/:-@[-`{-~])\1{2,}\s*")
_UNSEEN_HTML = ("script", "style", "template")
# Tags that may stand inside a word; every other one ends it.
_INSIDE_WORDS = ("a", "abbr", "b", "code", "em", "i", "kbd", "mark", "small", "span", "strong", "sub", "sup", "u")


@dataclass(frozen=True)
class Heading:
    """A heading: level 1 is the document's title."""

    level: int
    text: str
    line: int


@dataclass(frozen=True)
class Link:
    """A link or an image, as it is written."""

    target: str
    line: int
    is_image: bool = False


@dataclass
class Content:
    """What a document says, without its markup. `anchors` are the fragments that links may name."""

    headings: list[Heading] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    text: str = ""


def parse(text: str, suffix: str) -> Content:
    """Return the content of a document with this file suffix; an unknown one is plain text."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return DOCUMENT_PARSERS.get(suffix.lower(), _parse_text)(text)


# --- Markdown -----------------------------------------------------------------------------------------------------


def _parse_markdown(text: str) -> Content:
    """Parse CommonMark with tables. HTML inside it is parsed as HTML; front matter is not text."""
    content = Content()
    body = _FRONT_MATTER.sub(lambda match: "\n" * match[0].count("\n"), text, count=1)
    words: list[str] = []
    level = line = 0
    for token in MarkdownIt("commonmark").enable("table").parse(body):
        line = token.map[0] + 1 if token.map else line
        if token.type == "heading_open":
            level = int(token.tag[1])
        elif token.type == "inline":
            plain = _read_inline(token.children or [], line, content)
            words.append(plain)
            if level:
                _add_heading(content, level, plain, line)
            level = 0
        elif token.type == "html_block":
            words.append(_read_html(token.content, line, content))
        elif token.type in ("fence", "code_block"):
            words.append(token.content)
    content.text = "\n".join(words)
    return content


def _read_inline(tokens: list[Token], line: int, content: Content) -> str:
    """Collect the links of one paragraph or heading and return its plain text."""
    words: list[str] = []
    for token in tokens:
        match token.type:
            case "link_open":
                content.links.append(Link(str(token.attrs["href"]), line))
            case "image":
                content.links.append(Link(str(token.attrs["src"]), line, is_image=True))
                words.append(token.content)
            case "html_inline":
                _read_html(token.content, line, content)
            case "softbreak" | "hardbreak":
                line += 1
                words.append("\n")
            case _:
                words.append(token.content)
    return "".join(words)


def _add_heading(content: Content, level: int, text: str, line: int) -> None:
    """Add a heading and its anchor, made as GitHub makes them: the second of a name ends in -1."""
    content.headings.append(Heading(level, " ".join(text.split()), line))
    slug = _NOT_IN_SLUG.sub("", text.strip().lower()).replace(" ", "-")
    anchor, number = slug, 0
    while anchor in content.anchors:
        number += 1
        anchor = f"{slug}-{number}"
    content.anchors.add(anchor)


# --- HTML ---------------------------------------------------------------------------------------------------------


class _HtmlReader(HTMLParser):
    """Collects headings, links, anchors and visible text."""

    def __init__(self, content: Content, first_line: int) -> None:
        super().__init__()
        self.content = content
        self.words: list[str] = []
        self._first_line = first_line
        self._unseen = 0
        self._heading: tuple[int, int, int] | None = None  # level, line, and where its words begin

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        line = self._first_line + self.getpos()[0] - 1
        self._end_word(tag)
        self.content.anchors.update(anchor for anchor in (given.get("id"), tag == "a" and given.get("name")) if anchor)
        if tag == "a" and given.get("href") is not None:
            self.content.links.append(Link(given["href"] or "", line))
        elif tag == "img" and given.get("src") is not None:
            self.content.links.append(Link(given["src"] or "", line, is_image=True))
        elif tag in _UNSEEN_HTML:
            self._unseen += 1
        elif re.fullmatch("h[1-6]", tag):
            self._heading = (int(tag[1]), line, len(self.words))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _UNSEEN_HTML:  # nothing would close it again
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self._end_word(tag)
        if tag in _UNSEEN_HTML:
            self._unseen = max(0, self._unseen - 1)
        elif self._heading and tag == f"h{self._heading[0]}":
            level, line, begin = self._heading
            self.content.headings.append(Heading(level, " ".join("".join(self.words[begin:]).split()), line))
            self._heading = None

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.words.append(data)

    def _end_word(self, tag: str) -> None:
        if tag not in _INSIDE_WORDS:
            self.words.append("\n")


def _parse_html(text: str) -> Content:
    content = Content()
    content.text = _read_html(text, 1, content)
    return content


def _read_html(text: str, first_line: int, content: Content) -> str:
    """Add what the HTML holds to the content and return its visible text."""
    reader = _HtmlReader(content, first_line)
    reader.feed(text.replace("<![", "&lt;!["))  # html.parser raises AssertionError at a section it does not know
    reader.close()
    return "".join(reader.words)


# --- reStructuredText and text ------------------------------------------------------------------------------------


def _parse_rst(text: str) -> Content:
    """Find the headings: a line underlined by at least its length. The order of the underlines gives the levels."""
    content = Content(text=text)
    lines = text.split("\n")
    styles: list[str] = []
    for number, (title, below) in enumerate(pairwise(lines), start=1):
        if not title.strip() or not _UNDERLINE.fullmatch(below) or _UNDERLINE.fullmatch(title):
            continue
        if len(below.rstrip()) >= len(title.rstrip()):
            if below[0] not in styles:
                styles.append(below[0])
            content.headings.append(Heading(styles.index(below[0]) + 1, title.strip(), number))
    return content


def _parse_text(text: str) -> Content:
    return Content(text=text)


DOCUMENT_PARSERS: dict[str, Callable[[str], Content]] = {
    ".md": _parse_markdown,
    ".html": _parse_html,
    ".rst": _parse_rst,
}
