from __future__ import annotations

import re
from pathlib import Path

import pytest

from instar.errors import DefinitionError
from instar.fetch.requirements import Requirement, normal_name, read_requirements

HASH = "0" * 64


def read(tmp_path: Path, text: str | bytes) -> list[tuple[int, str, tuple[str, ...]]]:
    path = tmp_path / "requirements.txt"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return [(one.line, one.text, one.hashes) for one in read_requirements(path.parent, path.name)]


def test_comments_markers_extras_hashes_and_continued_lines_are_read(tmp_path: Path) -> None:
    text = (
        "\ufeff# web\n\nFlask >= 3 ,<4   # the framework\nuvicorn[standard]==0.30 ; python_version > '3.8'\n"
        f"zope.interface==7 \\\n    --hash=sha256:{HASH} \\\n    --hash sha256:{'1' * 64}  # both\nx#y\n"
    )
    assert read(tmp_path, text[: text.index("x#y")]) == [
        (3, "Flask >= 3 ,<4", ()),
        (4, "uvicorn[standard]==0.30 ; python_version > '3.8'", ()),
        (5, "zope.interface==7", (HASH, "1" * 64)),
    ]


def test_only_the_marker_of_a_requirement_may_have_slashes(tmp_path: Path) -> None:
    assert len(read(tmp_path, "flask; platform_version == 'a/b://c'\n")) == 1


def test_an_unfinished_continuation_counts_as_a_line(tmp_path: Path) -> None:
    assert read(tmp_path, "flask \\") == [(1, "flask", ())]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("-e .", "cannot use '-e'"),
        ("-r more.txt", "write its requirements here"),
        ("--requirement=more.txt", "cannot use '--requirement'"),
        ("-c limits.txt", "constraints are not read"),
        ("--index-url https://index.invalid/simple", "pip's configuration"),
        ("--extra-index-url=https://index.invalid", "pip's configuration"),
        ("--find-links ./wheels", "pip's configuration"),
        ("--pre", "options are not read"),
        ("https://index.invalid/x-1.0-py3-none-any.whl", "a URL can change"),
        ("x @ https://index.invalid/x.whl", "a URL can change"),
        ("x[a]@ file:///srv/x.whl", "a URL can change"),
        ("git+https://index.invalid/x.git@main", "a URL can change"),
        ("./x", "a file is not on the index"),
        ("../x", "a file is not on the index"),
        ("/srv/x", "a file is not on the index"),
        ("../wheels/x-1.0-py3-none-any.whl", "a file is not on the index"),
        ("x-1.0-py3-none-any.whl", "a file is not on the index"),
        ("x-1.0.tar.gz", "a file is not on the index"),
        ("x --global-option=a", "--global-option is not read"),
        ("x --hash=md5:abc", "cannot use the hash 'md5:abc'"),
        ("==1.0", "expected the name of a project"),
    ],
)
def test_what_cannot_be_locked_is_refused_with_its_line(tmp_path: Path, line: str, reason: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        read(tmp_path, f"flask\n# and\n{line}\n")
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("requirements.txt", 3)
    assert reason in problem.message


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError) as caught:
        read(tmp_path, "-e .\nflask\n./x\n")
    assert [problem.line for problem in caught.value.problems] == [1, 3]


def test_bytes_that_are_no_text_are_told_with_their_line(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match=r"requirements\.txt:2:1: cannot be read: it is not UTF-8"):
        read(tmp_path, b"flask\n\xff\xfe\n")


def test_names_have_one_normal_form() -> None:
    assert normal_name("Zope.Interface_x[a]>=1") == "zope-interface-x"
    one = Requirement(file="r", line=2, text="A.b==1", hashes=(HASH,))
    assert (one.name, one.place, one.written) == ("a-b", "r:2", f"A.b==1 --hash=sha256:{HASH}")


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("flask=3.0.0", "flask==3.0.0"),
        ("flask = 3.0.0", "flask==3.0.0"),
        ("uvicorn[standard]=0.30 ; python_version > '3.8'", "uvicorn[standard]==0.30"),
        ("flask 3.0.0", "flask==3.0.0"),
        ("flask=>3.0", "flask>=3.0"),
        ("flask =< 3", "flask<=3"),
    ],
)
def test_a_version_that_is_named_in_another_way_is_told_with_the_right_one(
    tmp_path: Path, line: str, meant: str
) -> None:
    with pytest.raises(DefinitionError, match=re.escape(f"write '{meant}'")):
        read(tmp_path, line)


@pytest.mark.parametrize(
    "line", ["flask==3", "flask===3", "flask>=3,<4", "flask ~= 3.0", "flask != 3", "flask3", "a (>=1)"]
)
def test_a_version_that_is_named_rightly_is_read(tmp_path: Path, line: str) -> None:
    assert read(tmp_path, line) == [(1, line, ())]
