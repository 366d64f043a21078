"""Collecting and reading the documents of a folder: what is taken, what is left out, and why."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from flowplatform.demo.markup import Content, parse

DOCUMENT_SUFFIXES = (".md", ".txt", ".rst", ".html")
MAX_DOCUMENTS = 2_000
MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_TOTAL_BYTES = 64 * 1024 * 1024

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PROJECT_DOCUMENTS = ("README.md", "CHANGELOG.md", "docs")


class CheckError(Exception):
    """A task cannot do its work. The text is one sentence for the report."""


@dataclass(frozen=True)
class Library:
    """The folder that executions choose from. `entries` are what is taken when an execution chooses nothing."""

    root: Path
    entries: tuple[str, ...] = (".",)

    @classmethod
    def of_project(cls) -> "Library":
        """Return the documents of this project itself."""
        return cls(PROJECT_ROOT, PROJECT_DOCUMENTS)


@dataclass(frozen=True)
class LeftOut:
    """A path that was not read, relative to the library's root, and why; `expected` means nobody would miss it."""

    path: str
    reason: str
    expected: bool = False


@dataclass
class Collection:
    """What the walk through the folder found. `other_files` counts files of other types; bytes are those taken."""

    folder: Path
    files: list[Path] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    other_files: int = 0
    total_bytes: int = 0


@dataclass(frozen=True)
class Document:
    """A document that was read. `path` is absolute, `name` relative to the library's root, `size` in bytes.

    `encoding_problem` is a sentence if the bytes were not UTF-8; what could not be decoded is replaced.
    """

    path: Path
    name: str
    size: int
    content: Content
    encoding_problem: str | None = None


def collect(library: Library, folder: object) -> Collection:
    """Find the documents in `folder` (relative to the library; empty for the whole of it).

    Raises `CheckError` for a folder that is missing or outside the library, and where there is no document.
    """
    root = library.root.resolve()
    chosen = chosen_folder(root, folder)
    collection = Collection(chosen)
    starts = [root / entry for entry in library.entries] if chosen == root else [chosen]
    for path in _walk(starts, root, collection):
        _take(path, root, collection)
    if not collection.files:
        raise CheckError(f"no document ({' '.join(DOCUMENT_SUFFIXES)}) could be taken from {printable(chosen)}")
    return collection


def chosen_folder(root: Path, folder: object) -> Path:
    """Return the folder an execution asks for; raise `CheckError` if it is not a folder inside `root`."""
    if folder is None:
        return root
    if not isinstance(folder, str):
        raise CheckError(f'input.folder must be text, such as "docs", not {type(folder).__name__}')
    try:
        chosen = (root / folder).resolve()
        is_folder = chosen.is_dir()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a NUL character, links in a circle
        raise CheckError(f"input.folder cannot be used: {error}") from error
    if not chosen.is_relative_to(root):
        raise CheckError(f"input.folder {folder!r} leads out of the input folder")
    if not is_folder:
        raise CheckError(f"input.folder {folder!r} is no folder inside the input folder")
    return chosen


def read(path: Path, root: Path) -> Document | LeftOut:
    """Return the parsed document, or why it cannot be read."""
    name = relative_name(path, root)
    try:
        data = path.read_bytes()
    except OSError as error:
        return LeftOut(name, f"cannot be read: {error.strerror}")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return LeftOut(name, "UTF-16 text: save it as UTF-8")
    if b"\0" in data:
        return LeftOut(name, "binary: contains NUL bytes")
    text, encoding_problem = _decode(data)
    return Document(path, name, len(data), parse(text, path.suffix), encoding_problem)


def _decode(data: bytes) -> tuple[str, str | None]:
    """Return the text, and a sentence if it had to be patched up."""
    try:
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        problem = f"not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start:,}"
        return data.decode("utf-8-sig", "replace"), problem


def relative_name(path: Path, root: Path) -> str:
    """Return the path relative to the root, with forward slashes."""
    return printable(path.relative_to(root))


def printable(path: Path) -> str:
    """Return a path as text that can be written as UTF-8 whatever bytes its name has."""
    return path.as_posix().encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _walk(starts: Iterable[Path], root: Path, collection: Collection) -> Iterator[Path]:
    """Yield the files below the starting points in name order; a starting point may be missing or be a file."""

    def cannot_list(error: OSError) -> None:
        name = relative_name(Path(error.filename), root)
        collection.left_out.append(LeftOut(f"{name}/", f"cannot be listed: {error.strerror}"))

    for start in starts:
        if start.is_file():
            yield start
            continue
        for parent, folders, names in os.walk(start, onerror=cannot_list if start.exists() else None):
            folders[:] = sorted(name for name in folders if _enter(Path(parent, name), root, collection))
            yield from (Path(parent, name) for name in sorted(names))


def _enter(folder: Path, root: Path, collection: Collection) -> bool:
    """Say whether the walk goes into a folder; note the reason if it does not."""
    name = f"{relative_name(folder, root)}/"
    hidden = LeftOut(name, "hidden folder", expected=True) if _is_hidden(folder) else None
    left_out = hidden or _refused_link(folder, name, root)
    if left_out:
        collection.left_out.append(left_out)
    return left_out is None


def _take(path: Path, root: Path, collection: Collection) -> None:
    """Put one file where it belongs: among the documents, the left out or the other files."""
    if path.suffix.lower() not in DOCUMENT_SUFFIXES:
        collection.other_files += 1
    elif left_out := _refused(path, root, collection):
        collection.left_out.append(left_out)
    else:
        collection.files.append(path)


def _refused(path: Path, root: Path, collection: Collection) -> LeftOut | None:
    """Return why a file with a document's name is not taken, `None` if it is; its bytes count from then on."""
    name = relative_name(path, root)
    if _is_hidden(path):
        return LeftOut(name, "hidden file", expected=True)
    if refused := _refused_link(path, name, root):
        return refused
    try:
        found = path.stat()
    except OSError as error:
        return LeftOut(name, f"cannot be read: {error.strerror}")
    reason = _refusal(found, collection)
    if reason is None:
        collection.total_bytes += found.st_size
    return LeftOut(name, reason) if reason else None


def _refusal(found: os.stat_result, collection: Collection) -> str | None:
    """Return which limit a file exceeds."""
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
        return "not a regular file"
    if found.st_size > MAX_DOCUMENT_BYTES:
        return f"too large: {found.st_size:,} bytes, up to {MAX_DOCUMENT_BYTES:,} are read"
    if len(collection.files) >= MAX_DOCUMENTS:
        return f"too many: the first {MAX_DOCUMENTS:,} documents are read"
    if collection.total_bytes + found.st_size > MAX_TOTAL_BYTES:
        return f"too much: up to {MAX_TOTAL_BYTES:,} bytes are read"
    return None


def _refused_link(path: Path, name: str, root: Path) -> LeftOut | None:
    """Return why a symbolic link is not followed, `None` for anything else."""
    if not path.is_symlink():
        return None
    try:
        inside = path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):  # links in a circle
        inside = False
    if inside:
        return LeftOut(name, "symbolic link: not followed", expected=True)
    return LeftOut(name, "symbolic link out of the folder")


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(".")
