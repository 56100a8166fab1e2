"""Patterns of ``exclude`` against git itself, and their time."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from instar.model.patterns import NoPattern, Patterns

NAMES = ("a", "b", "ab", "a.log", "b.md", "-", "[", "]", "!", "#x", "A", "a b", "ä", "*", "\\", ".h", "z9")
DEEP = ("a", "ab", "b.md", "ä")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with every name at its top, and folders of folders with the same names."""
    top = tmp_path_factory.mktemp("git")
    subprocess.run(["git", "init", "-q", top], check=True, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
    for outer in DEEP:
        for inner in DEEP:
            (top / f"{outer}.d" / inner / "a").mkdir(parents=True)
            (top / f"{outer}.d" / inner / "a" / "x.log").touch()
            (top / f"{outer}.d" / inner / "b").touch()
    for name in NAMES:
        (top / name).touch()
        (top / "a.d" / f"{name}~").touch()
    return top


def walked(top: Path, patterns: Patterns | None) -> Iterator[str]:
    """Yield every path below ``top`` that is not left out, as sources.py walks."""
    waiting = [""]
    while waiting:
        above = waiting.pop()
        for entry in os.scandir(top / above):
            path = f"{above}/{entry.name}".lstrip("/")
            if path == ".git" or (patterns and patterns.leave_out(path, is_folder=entry.is_dir())):
                continue
            yield path
            if entry.is_dir():
                waiting.append(path)


def kept_by_git(top: Path, texts: list[str]) -> set[str]:
    (top / ".git/info/exclude").write_bytes(b"".join(os.fsencode(text) + b"\n" for text in texts))
    every = sorted(walked(top, None))
    asked = "\0".join(every) + "\0"
    argv = ["git", "-C", str(top), "-c", "core.ignorecase=false", "check-ignore", "--no-index", "--stdin", "-z"]
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    found = subprocess.run(argv, input=os.fsencode(asked), capture_output=True, env=env, check=False)
    assert found.returncode in (0, 1), found.stderr
    return set(every) - set(os.fsdecode(found.stdout).split("\0"))


PIECES = st.sampled_from(
    [*NAMES, "*", "**", "?", "/", "/", "a.d", "b.md.d", "[ab]", "[!a]", "[^b]", "[]a]", "[a-z]", "[[:alpha:]]", "[z-a]",
     "[a/b]", "[\\]]", "\\*", "\\[", "\\!", "\\#", "x.log", "!", "[[:digit:]a-b]", "[a-]", "[[:a]", "\\a", " ", "\\ ",
     "[![:upper:]]", "**/", "/**", "/**/", "*.log", "*.d", "~"]
)  # fmt: skip
# git up to 2.40 compares two unrelated pointers where "**" stands beside other characters than a slash
TEXTS = st.lists(PIECES, min_size=1, max_size=5).map("".join).filter(lambda text: not re.search(r"[^/!]\*\*", text))


@settings(
    max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(TEXTS, min_size=1, max_size=4))
@example(["**/*.log"])
@example(["/a.d"])
@example(["*.d", "!a.d"])
@example(["a.d/*", "!a.d/ab"])
@example(["a.d/**/x.log", "b.md.d/**"])
@example(["**/a/**/x.log"])
@example(["***/b"])
def test_what_is_left_out_is_what_git_ignores(tree: Path, texts: list[str]) -> None:
    readable, refused = [], []
    for text in texts:
        try:
            Patterns([text])
            readable.append(text)
        except NoPattern:
            refused.append(text)
    assert set(walked(tree, Patterns(readable))) == kept_by_git(tree, readable)
    for text in refused:  # it would never have left anything out, nor brought anything back
        bare = text.removeprefix("!")
        assert kept_by_git(tree, [bare]) == set(walked(tree, None)), text


@pytest.mark.parametrize(
    "pattern", ["*a" * 200, "**/a/" * 200 + "b", "*/" * 200 + "*a*a*a*b", "?*" * 200, "**/*a*a*a/" * 50 + "b"]
)
def test_a_hostile_pattern_takes_time_in_proportion(pattern: str) -> None:
    patterns = Patterns([pattern])
    started = time.process_time()
    for path in ("a" * 255, "/".join(["a" * 255] * 15), "a/" * 2000 + "c"):
        patterns.leave_out(path, is_folder=False)
    assert time.process_time() - started < 20


def test_stars_beside_other_characters_are_ordinary_ones() -> None:
    patterns = Patterns(["a**/b"])
    assert patterns.leave_out("aa/b", is_folder=False)
    assert not patterns.leave_out("ab", is_folder=False)
    assert not patterns.leave_out("a/x/b", is_folder=False)
