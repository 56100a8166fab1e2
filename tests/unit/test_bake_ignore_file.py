"""``.dockerignore`` means what docker build has it mean, where the definition says that it is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from instar.bake.files.excluded import Ignored, docker_ignored, excluded
from instar.bake.files.ignore_file import read_ignore_file
from instar.bake.files.sources import UnusableFile, find
from instar.model.patterns import NoPattern

TREE = ("a.py", "README.md", "docs/a.md", "docs/b.txt", "mods/x/i.js", "mods/keep/k.js", "mods/keep/deep/z.js")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in TREE:
        (tmp_path / "app" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "app" / name).write_text("x")
    return tmp_path


def copied(folder: Path, text: str, *, source: str = "app", exclude: tuple[str, ...] = ()) -> set[str]:
    patterns = docker_ignored(text)
    own = excluded(exclude, 2)
    _, found = find(folder, source, exclude=Ignored(patterns, source, own) if patterns else own, never=frozenset())
    paths = {one.path for one in found}
    for one in found:
        above = one.path.rpartition("/")[0]
        assert not above or above in paths, "a folder is missing"
    return {one.path for one in found if one.kind == "file"}


@pytest.mark.parametrize(
    ("text", "out"),
    [
        ("# app\n\n", set()),
        ("*.md", set()),  # a path from the top, which none of these is
        ("app/*.md", {"README.md"}),
        ("**/*.md", {"README.md", "docs/a.md"}),
        ("/app/docs", {"docs/a.md", "docs/b.txt"}),
        ("./app/docs/", {"docs/a.md", "docs/b.txt"}),
        ("  app/a.py  ", {"a.py"}),
        ("app/*\n!app/*.py", set(TREE) - {"a.py"}),
        ("app/mods\n!app/mods/keep", {"mods/x/i.js"}),
        ("app/mods\n!app/mods/keep\napp/mods/keep/deep", {"mods/x/i.js", "mods/keep/deep/z.js"}),
        ("!app/mods/keep\napp/mods", {"mods/x/i.js", "mods/keep/k.js", "mods/keep/deep/z.js"}),
        ("app", set(TREE)),
        (".", set()),
        ("\ufeffapp/a.py", {"a.py"}),
    ],
)
def test_patterns(folder: Path, text: str, out: set[str]) -> None:
    assert set(TREE) - copied(folder, text) == out


def test_what_an_entry_leaves_out_itself_is_never_brought_back(folder: Path) -> None:
    assert "mods/keep/k.js" not in copied(folder, "app/mods\n!app/mods/keep", exclude=("/mods/",))
    assert "mods/keep/k.js" in copied(folder, "app/mods\n!app/mods/keep", exclude=("/docs/",))


def test_the_whole_folder_as_a_source(folder: Path) -> None:
    assert copied(folder, "app/docs\napp/mods", source=".") == {"app/a.py", "app/README.md"}


@pytest.mark.parametrize("text", ["!", "ok\n! \n", "a[", "x\\"])
def test_what_is_no_pattern_is_named_by_its_line(text: str) -> None:
    with pytest.raises(NoPattern, match=r"line \d:"):
        docker_ignored(text)


def test_one_that_is_asked_for_has_to_be_there(tmp_path: Path) -> None:
    assert read_ignore_file(tmp_path, ".instarignore") is None
    with pytest.raises(UnusableFile, match=r"'\.dockerignore': No such file"):
        read_ignore_file(tmp_path, ".dockerignore")
