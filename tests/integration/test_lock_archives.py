"""Archives that do not answer, are not trusted, change, or have a package in another suite: real apt, no network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from lock_author import Author, author_in

from instar.definition import load
from instar.errors import FetchError, LockStale, ResolveError, SourceUnreachable
from instar.lock.file import read, write
from instar.lock.fit import require_fit
from instar.model.progress import Progress


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with author_in(tmp_path) as author:
        yield author


def test_an_archive_that_does_not_answer_is_named(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    file = author.folder / "dead.list"
    file.write_text("deb [trusted=yes] http://127.0.0.1:9 bookworm main\n")
    monkeypatch.setenv("INSTAR_APT_SOURCES", str(file))
    author.write()
    with pytest.raises(SourceUnreachable, match=r"cannot read the archive of 'bookworm'.*refused") as caught:
        author.lock()
    assert str(file) in (caught.value.hint or "")


def test_an_archive_without_a_signature_is_not_trusted(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    file = author.folder / "unsigned.list"
    file.write_text(f"deb {author.archive.address} bookworm main\n")
    monkeypatch.setenv("INSTAR_APT_SOURCES", str(file))
    author.write()
    with pytest.raises(FetchError, match="not signed"):
        author.lock()


def test_an_archive_may_call_itself_something_else(author: Author) -> None:
    author.archive.add("liba", "1.0", suite="bookworm-security")
    author.archive.publish()
    author.write("perl")
    old = author.lock()
    author.archive.label = "Renamed"
    author.archive.publish(date=1_700_000_001)
    told: list[Progress] = []
    new = author.lock(old, "all", report=told.append)
    assert {package.label for package in new.packages} == {"Renamed"}
    assert [suite.label for suite in new.suites] == ["Renamed", "Renamed Security"]
    author.write("bash")
    author.lock(old, report=told.append)
    assert [one.text for one in told if one.kind == "warning"] == [
        "the archive of 'bookworm' calls itself 'Renamed' now, and was 'Test'",
        "the archive of 'bookworm-security' calls itself 'Renamed Security' now, and was 'Test Security'",
    ]


def test_an_archive_that_becomes_another_release_is_told_once(author: Author) -> None:
    author.write("perl")
    author.lock()
    author.archive.codename = "trixie"
    author.archive.publish(date=1_700_000_001)
    with pytest.raises(FetchError, match="an archive that was of release 'bookworm' is of 'trixie' now") as caught:
        author.lock(None)
    assert "run the command again" in (caught.value.hint or "")
    author.lock(None)


def test_a_package_of_another_suite_is_told_where_it_is_and_taken_when_that_is_asked_for(author: Author) -> None:
    author.archive.more = ("bookworm-backports", "nodistro")
    author.archive.add("tool", "2.0~bpo12+1", suite="bookworm-backports", depends="libtool")
    author.archive.add("libtool", "1.0", suite="bookworm-backports")
    author.archive.publish()
    author.archive.sources(author.folder / "sources.list")
    author.write("tool")
    with pytest.raises(ResolveError) as caught:
        author.lock()
    assert str(caught.value) == (
        f"{author.folder}/instar.yaml:4:14: cannot lock 'tool': debian:bookworm has no such package, but"
        " 'bookworm-backports' (2.0~bpo12+1) of this machine's sources has it: add the suite to image.suites"
    )
    author.write("tool", suites="bookworm-backports")
    lock = author.lock()
    assert {one.name: one.suite for one in lock.packages}["libtool"] == "bookworm-backports"
    assert lock.requested.suites == ("bookworm-backports",)
    assert author.lock(lock) == lock
    file = author.folder / "instar.lock"
    write(file, lock)
    assert read(file) == lock
    author.write("tool", suites="nodistro")
    with pytest.raises(LockStale, match="suites were bookworm-backports when locked, and are nodistro"):
        require_fit(lock, load(author.folder / "instar.yaml"))
    author.write("tool", suites="nowhere")
    with pytest.raises(ResolveError, match="cannot find 'nowhere': none of this machine's apt sources has it"):
        author.lock(lock)
