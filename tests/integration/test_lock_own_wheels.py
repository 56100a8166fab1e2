"""Wheels of the author's own beside the definition: locked by their hash, with what they need. Real uv."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from local_archive import make_wheel
from lock_author import Author, author_in

from instar.definition import load
from instar.errors import DefinitionError, HashMismatch, LockStale, ResolveError
from instar.fetch.cache import Cache
from instar.fetch.own_wheels import bring_own
from instar.lock.file import read, write
from instar.lock.fit import require_fit

OWN = "./wheels/acme_core-1.0-py3-none-any.whl"


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with author_in(tmp_path) as author:
        (tmp_path / "wheels").mkdir()
        make_wheel(tmp_path / "wheels", "acme_core", "1.0", requires="flask")
        make_wheel(tmp_path, "flask", "3.0")
        author.write("python3", python=f"{OWN}\n")
        yield author


def test_an_own_wheel_is_locked_by_its_hash_with_what_it_needs(author: Author) -> None:
    lock = author.lock()
    found = {wheel.name: (wheel.version, wheel.path, wheel.why) for wheel in lock.wheels}
    assert found == {
        "acme-core": ("1.0", OWN[2:], "asked for"),
        "flask": ("3.0", None, "needed by acme-core"),
    }
    write(author.folder / "instar.lock", lock)
    assert read(author.folder / "instar.lock") == lock
    assert author.lock(lock) == lock
    cache = Cache(author.folder / "another machine's")
    bring_own(lock.wheels, author.folder, cache)
    assert [wheel.name for wheel in lock.wheels if cache.find(wheel.sha256)] == ["acme-core"]


def test_another_wheel_under_the_same_name_needs_another_lock(author: Author) -> None:
    lock = author.lock()
    make_wheel(author.folder / "wheels", "acme_core", "1.0")
    with pytest.raises(LockStale, match=r"requirements.txt:1: '\./wheels/acme_core.*' was '\./wheels/acme_core"):
        require_fit(lock, load(author.folder / "instar.yaml"))
    with pytest.raises(HashMismatch, match="another file than the lock says"):
        bring_own(lock.wheels, author.folder, Cache(author.folder / "another machine's"))
    assert [wheel.name for wheel in author.lock(lock).wheels] == ["acme-core"]


def _gone(wheels: Path) -> None:
    (wheels / OWN[9:]).unlink()


def _a_link(wheels: Path) -> None:
    (wheels / OWN[9:]).rename(wheels / "there.whl")
    (wheels / OWN[9:]).symlink_to("there.whl")


def _a_folder_that_is_a_link(wheels: Path) -> None:
    wheels.rename(wheels.with_name("elsewhere"))
    wheels.symlink_to("elsewhere")


@pytest.mark.parametrize("damage", [_gone, _a_link, _a_folder_that_is_a_link])
def test_what_is_no_file_there_is_refused_with_its_line(author: Author, damage: object) -> None:
    damage(author.folder / "wheels")  # type: ignore[operator]
    with pytest.raises(DefinitionError) as caught:
        author.lock()
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == ("requirements.txt", 1)
    assert "it cannot be read" in problem.message


@pytest.mark.parametrize("path", ["./../acme-1.0-py3-none-any.whl", "./a/../acme-1.0-py3-none-any.whl", ".//a.whl"])
def test_no_path_leads_out(author: Author, path: str) -> None:
    author.write("python3", python=f"{path}\n")
    with pytest.raises(DefinitionError, match="below the definition's folder"):
        author.lock()


def test_what_is_no_wheel_is_refused(author: Author) -> None:
    (author.folder / OWN).write_bytes(b"no archive")
    with pytest.raises(ResolveError, match="acme"):
        author.lock()


def test_a_wheel_for_another_platform_is_refused(author: Author) -> None:
    other = "./wheels/acme_core-1.0-cp27-cp27m-win32.whl"
    (author.folder / OWN).rename(author.folder / other)
    author.write("python3", python=f"{other}\n")
    with pytest.raises(ResolveError, match="acme-core"):
        author.lock()
