"""What the demo worker makes of documents: collecting, parsing, and each of the checks, without a server."""

import os
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from flowplatform_client import StatusUpdate
from hypothesis import given, settings
from hypothesis import strategies as st

from flowplatform.demo.check import DocumentCheck
from flowplatform.demo.documents import MAX_DOCUMENT_BYTES, CheckError, Document, LeftOut, Library, collect, read
from flowplatform.demo.links import LinkFindings, check_links
from flowplatform.demo.markup import DOCUMENT_PARSERS, Content, parse
from flowplatform.demo.run import Run
from flowplatform.demo.structure import check_structure
from flowplatform.demo.tasks import TASKS, Task, flow_definition
from flowplatform.demo.words import count_words


def make_files(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def read_all(root: Path) -> list[Document]:
    read_files = [read(path, root) for path in collect(Library(root), None).files]
    return [document for document in read_files if isinstance(document, Document)]


def make_document(name: str, text: str) -> Document:
    return Document(Path("/library", name), name, len(text), parse(text, Path(name).suffix))


def make_check(root: Path, reports: Path, folder: object = None) -> DocumentCheck:
    return DocumentCheck(uuid4(), Library(root), folder, reports, datetime.now(UTC))


def play(check: DocumentCheck, tasks: Sequence[Task] = TASKS) -> list[StatusUpdate]:
    """Run the tasks without a server; return every status in the order of reporting."""
    reported: list[StatusUpdate] = []
    Run(tasks, check, report=reported.extend, pace_seconds=0).play()
    return reported


# --- collecting and reading ---------------------------------------------------------------------------------------


def test_documents_are_taken_in_name_order_and_other_files_are_counted(tmp_path: Path) -> None:
    make_files(tmp_path, {"b.MD": "b", "a/z.rst": "z", "a.txt": "a", "c.html": "c", "d.py": "d", "e": "e"})
    collection = collect(Library(tmp_path), None)
    assert [path.relative_to(tmp_path).as_posix() for path in collection.files] == [
        "a.txt",
        "b.MD",
        "c.html",
        "a/z.rst",
    ]
    assert (collection.other_files, collection.left_out) == (2, [])


def test_the_projects_own_documents_are_taken_without_a_problem() -> None:
    collection = collect(Library.of_project(), None)
    assert {"README.md", "CHANGELOG.md", "architecture.md"} <= {path.name for path in collection.files}
    assert [item for item in collection.left_out if not item.expected] == []


def test_everything_that_is_left_out_is_named_with_its_reason(tmp_path: Path) -> None:
    root = make_files(tmp_path / "root", {"good.md": "# Good", ".hidden.md": "", ".git/a.md": "", "sub/b.md": "b"})
    make_files(tmp_path, {"secret.md": "outside"})
    (root / "big.md").write_bytes(b"x" * (MAX_DOCUMENT_BYTES + 1))
    (root / "out.md").symlink_to(tmp_path / "secret.md")
    (root / "inside.md").symlink_to("good.md")
    (root / "circle.md").symlink_to("circle.md")
    (root / "away").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(root / "pipe.md")
    collection = collect(Library(root), "")
    assert [path.name for path in collection.files] == ["good.md", "b.md"]
    assert {item.path: (item.reason, item.expected) for item in collection.left_out} == {
        ".hidden.md": ("hidden file", True),
        ".git/": ("hidden folder", True),
        "inside.md": ("symbolic link: not followed", True),
        "out.md": ("symbolic link out of the folder", False),
        "circle.md": ("symbolic link out of the folder", False),
        "away/": ("symbolic link out of the folder", False),
        "pipe.md": ("not a regular file", False),
        "big.md": ("too large: 1,048,577 bytes, up to 1,048,576 are read", False),
    }


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_and_folders_are_named(tmp_path: Path) -> None:
    make_files(tmp_path, {"good.md": "# Good", "locked.md": "x", "closed/a.md": "x"})
    (tmp_path / "locked.md").chmod(0)
    (tmp_path / "closed").chmod(0)
    try:
        collection = collect(Library(tmp_path), None)
        assert collection.left_out == [LeftOut("closed/", "cannot be listed: Permission denied")]
        assert read(tmp_path / "locked.md", tmp_path) == LeftOut("locked.md", "cannot be read: Permission denied")
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("..", "leads out of the input folder"),
        ("sub/../..", "leads out of the input folder"),
        ("/etc", "leads out of the input folder"),
        ("away", "leads out of the input folder"),
        ("nowhere", "is no folder inside the input folder"),
        ("sub/a.md", "is no folder inside the input folder"),
        ("a" * 300, "input.folder cannot be used"),
        ("nul\0", "input.folder cannot be used"),
        (["sub"], "must be text"),
        ("empty", "no document"),
    ],
)
def test_a_folder_that_cannot_be_checked_is_refused_with_a_reason(tmp_path: Path, folder: object, reason: str) -> None:
    root = make_files(tmp_path / "root", {"sub/a.md": "a"})
    (root / "away").symlink_to("/", target_is_directory=True)
    (root / "empty").mkdir()
    with pytest.raises(CheckError, match=reason):
        collect(Library(root), folder)


def test_a_folder_inside_the_input_folder_is_checked_alone(tmp_path: Path) -> None:
    make_files(tmp_path, {"a.md": "a", "sub/b.md": "b"})
    assert [path.name for path in collect(Library(tmp_path), "sub").files] == ["b.md"]


def test_of_the_project_only_its_documents_are_taken_when_nothing_is_chosen(tmp_path: Path) -> None:
    make_files(tmp_path, {"README.md": "r", "docs/a.md": "a", "tests/fixture.md": "f"})
    library = Library(tmp_path, ("README.md", "CHANGELOG.md", "docs"))
    assert [path.name for path in collect(library, None).files] == ["README.md", "a.md"]
    assert [path.name for path in collect(library, "tests").files] == ["fixture.md"]


def test_bytes_that_are_not_text_are_told_apart(tmp_path: Path) -> None:
    make_files(
        tmp_path, {"a.md": b"# T\x00", "b.md": "# T".encode("utf-16"), "c.md": b"# Caf\xe9", "d.md": "\ufeff# T"}
    )
    assert read(tmp_path / "a.md", tmp_path) == LeftOut("a.md", "binary: contains NUL bytes")
    assert read(tmp_path / "b.md", tmp_path) == LeftOut("b.md", "UTF-16 text: save it as UTF-8")
    assert read(tmp_path / "gone.md", tmp_path) == LeftOut("gone.md", "cannot be read: No such file or directory")
    latin, marked = read(tmp_path / "c.md", tmp_path), read(tmp_path / "d.md", tmp_path)
    assert isinstance(latin, Document)
    assert isinstance(marked, Document)
    assert latin.encoding_problem == "not UTF-8: byte 0xe9 at offset 5"
    assert (marked.encoding_problem, marked.content.headings[0].text) == (None, "T")


# --- parsing ------------------------------------------------------------------------------------------------------


def test_markdown_gives_headings_links_and_anchors_with_their_lines() -> None:
    content = parse(
        "---\ntitle: front\n---\n# The *title*\n\ntext [a](a.md)\nand [b][ref] ![i](i.png)\n\n"
        "## Same\n\n## Same\n\n```\n[no](link.md)\n```\n\n<a name='here' href='c.md'>c</a>\n\n[ref]: b.md#x\n",
        ".md",
    )
    assert [(each.level, each.text, each.line) for each in content.headings] == [
        (1, "The title", 4),
        (2, "Same", 9),
        (2, "Same", 11),
    ]
    assert [(each.target, each.line, each.is_image) for each in content.links] == [
        ("a.md", 6, False),
        ("b.md#x", 7, False),
        ("i.png", 7, True),
        ("c.md", 17, False),
    ]
    assert content.anchors == {"the-title", "same", "same-1", "here"}


def test_html_gives_visible_text_only() -> None:
    content = parse(
        "<style>p{}</style><h1>On<b>e</b> title</h1>\n<p id=p>two<br>three</p><script>var x</script>"
        "<a href=''>self</a><img src=x.png />",
        ".html",
    )
    assert content.text.split() == ["One", "title", "two", "three", "self"]
    assert [(each.level, each.text) for each in content.headings] == [(1, "One title")]
    assert [(each.target, each.line, each.is_image) for each in content.links] == [("", 2, False), ("x.png", 2, True)]
    assert content.anchors == {"p"}


def test_restructuredtext_levels_follow_the_order_of_the_underlines() -> None:
    content = parse("=====\nTitle\n=====\n\nPart\n----\n\n- item\n\nOther part\n----------\nshort\n--\n", ".rst")
    assert [(each.level, each.text) for each in content.headings] == [(1, "Title"), (2, "Part"), (2, "Other part")]


@settings(max_examples=60, deadline=None)
@given(
    st.text(alphabet=st.sampled_from("<>![]()#-=`&;/\"' \nab\0"), max_size=80), st.sampled_from([*DOCUMENT_PARSERS, ""])
)
def test_no_text_breaks_a_parser(text: str, suffix: str) -> None:
    assert isinstance(parse(text, suffix), Content)


# --- the checks ---------------------------------------------------------------------------------------------------


def check_one_link(root: Path, link: str) -> LinkFindings:
    make_files(
        root,
        {
            "docs/guide.md": f"# Guide\n\n{link}\n",
            "docs/other page.md": "# Other\n\n## A section\n",
            "docs/page.html": "<h1 id='top-of-it'>x</h1>",
            "docs/images/i.png": b"\x89PNG",
            "README.md": "# Readme",
        },
    )
    return check_links(read_all(root), root)


@pytest.mark.parametrize(
    "link",
    [
        "[x](<other page.md>)",
        "[x](other%20page.md#a-section)",
        "[x](#guide)",
        "[x](#top)",
        "[x](../README.md)",
        "[x](/docs/page.html#top-of-it)",
        "[x](images/)",
        "[x](images/i.png#page=2)",
        "![x](images/i.png?raw=true)",
        "<a href='page.html'>x</a>",
        "<img src='images/i.png'>",
    ],
)
def test_a_link_to_something_inside_the_folder_is_good(tmp_path: Path, link: str) -> None:
    findings = check_one_link(tmp_path, link)
    assert (findings.checked, findings.broken) == (1, [])


@pytest.mark.parametrize(
    ("link", "reason"),
    [
        ("[x](missing.md)", "no such file"),
        ("[x](Guide.md)", "no such file"),
        ("[x](#missing)", "no heading or anchor #missing"),
        ("[x](<other page.md#guide>)", "no heading or anchor #guide"),
        ("[x](page.html#x)", "no heading or anchor #x"),
        ("![x](images)", "an image must be a file"),
        ("![x](images/j.png)", "no such file"),
        ("[x](%00.md)", "no such file"),
        ("<a href='gone.html'>x</a>", "no such file"),
        (f"[x]({'a' * 300}.md)", "no such file"),
        ("<a href='http://[oops'>x</a>", "not an address: Invalid IPv6 URL"),
    ],
)
def test_a_link_that_leads_nowhere_is_broken(tmp_path: Path, link: str, reason: str) -> None:
    problem = check_one_link(tmp_path, link).broken[0]
    assert (problem.document, problem.line, problem.reason) == ("docs/guide.md", 3, reason)


@pytest.mark.parametrize("link", ["https://example.org/x", "mailto:a@example.org", "//example.org/x"])
def test_a_link_to_another_site_is_counted_and_not_followed(tmp_path: Path, link: str) -> None:
    findings = check_one_link(tmp_path, f"[x]({link})")
    assert (findings.checked, findings.external, findings.broken) == (0, 1, [])


def test_a_link_out_of_the_folder_is_not_looked_at(tmp_path: Path) -> None:
    findings = check_one_link(tmp_path / "root", "[x](../../../../../etc/passwd)")
    assert (findings.checked, findings.outside, findings.broken) == (0, 1, [])


def test_structure_remarks_name_what_a_reader_stumbles_over() -> None:
    remarks = check_structure(
        [
            make_document("empty.md", " \n"),
            make_document("untitled.md", "## Part\n\nx"),
            make_document("jump.md", "# Title\n\n### Deep\n\n# Again\n"),
            make_document("twice.md", "# Title\n\n## A\n\n## A\n"),
            make_document("plain.txt", "no headings needed"),
        ]
    )
    assert [(each.document, each.line, each.remark) for each in remarks] == [
        ("empty.md", 0, "empty document"),
        ("untitled.md", 0, "no title (heading of level 1)"),
        ("jump.md", 5, 'a second title: "Again"'),
        ("jump.md", 3, 'the heading "Deep" jumps from level 1 to level 3'),
        ("twice.md", 5, 'the heading "A" is repeated'),
        ("twice.md", 0, 'the same title as jump.md: "Title"'),
    ]


def test_the_sections_of_a_changelog_may_repeat_below_each_release() -> None:
    changelog = make_document("c.md", "# Changes\n\n## 2.0\n\n### Added\n\nx\n\n## 1.0\n\n### Added\n\ny\n")
    assert check_structure([changelog]) == []


def test_word_statistics_count_words_not_markup() -> None:
    words = count_words(
        [make_document("a.md", "# Relay\n\nThe relay's *relay* don't 42 `x`"), make_document("b.txt", "")]
    )
    assert (words.words, words.different_words) == (6, 5)
    assert words.frequent == [("relay", 2), ("relay's", 1), ("don't", 1)]
    assert words.longest == [("a.md", 6), ("b.txt", 0)]
    assert words.reading_minutes == pytest.approx(6 / 238)


# --- the run of all tasks, and the report ------------------------------------------------------------------------


def test_every_task_is_queued_after_what_it_depends_on(tmp_path: Path) -> None:
    make_files(tmp_path / "in", {"a.md": "# A\n\n[x](b.md)", "b.md": "# B"})
    reported = play(make_check(tmp_path / "in", tmp_path / "out"))
    for task in TASKS:
        assert [update.status for update in reported if update.task_name == task.name] == [
            "queued",
            "running",
            "completed",
        ]
        for parent in task.depends_on:
            assert reported.index(StatusUpdate(parent, "completed")) < reported.index(StatusUpdate(task.name, "queued"))


def test_the_branches_work_at_the_same_time(tmp_path: Path) -> None:
    meeting = threading.Barrier(2, timeout=5)

    def meet(check: DocumentCheck) -> str:
        meeting.wait()
        return ""

    tasks = [Task("left", "", (), meet), Task("right", "", (), meet)]
    check = make_check(tmp_path, tmp_path)
    play(check, tasks)
    assert [outcome.status for outcome in check.outcomes.values()] == ["completed", "completed"]


def test_a_failure_skips_what_follows_and_still_gives_a_report(tmp_path: Path) -> None:
    check = make_check(tmp_path, tmp_path / "out", folder="../elsewhere")
    reported = play(check)
    assert {name: outcome.status for name, outcome in check.outcomes.items()} == {
        "collect": "failed",
        **dict.fromkeys(["read", "word_statistics", "link_check", "structure_check", "validate"], "skipped"),
        "report": "completed",
    }
    assert {outcome.note for outcome in check.outcomes.values() if outcome.status == "skipped"} == {"collect failed"}
    assert reported[2:8] == [("collect", "failed"), *((task.name, "skipped") for task in TASKS[1:6])]
    report = check.report_path.read_text()
    assert report.startswith("# Document check: failed\n")
    assert "leads out of the input folder" in report


def test_a_bug_in_a_task_fails_that_task_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def stumble(check: DocumentCheck) -> str:
        raise KeyError("x")

    check = make_check(tmp_path, tmp_path)
    play(check, [Task("t", "", (), stumble)])
    assert check.outcomes["t"].note == "a bug in the worker: KeyError: 'x'"
    assert "Traceback" in capsys.readouterr().err


def test_the_report_says_what_was_found_and_takes_names_as_text(tmp_path: Path) -> None:
    make_files(tmp_path / "in", {"a|b.md": b"# <b>A</b> \xff\n\n[x](gone.md)", "b.md": b"\0", ".c.md": ""})
    os.close(os.open(bytes(tmp_path / "in") + b"/bad\xff.md", os.O_CREAT))
    check = make_check(tmp_path / "in", tmp_path / "out")
    play(check)
    report = check.report_path.read_text()
    assert report.startswith("# Document check: needs work\n")
    for line in (
        "- b.md: binary: contains NUL bytes",
        "- a\\|b.md: not UTF-8: byte 0xff at offset 11",
        "- 1 broken link",
        "| a\\|b.md | 3 | gone.md | no such file |",
        "| bad�.md |  | empty document |",
        "| .c.md | hidden file |",
    ):
        assert line in report.splitlines()
    assert list(check.reports.iterdir()) == [check.report_path]


def test_the_flow_definition_is_what_the_api_takes() -> None:
    tasks = flow_definition()["tasks"]
    assert [task["name"] for task in tasks][-2:] == ["validate", "report"]
    assert tasks[5]["depends_on"] == ["word_statistics", "link_check", "structure_check"]
