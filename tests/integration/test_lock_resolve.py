"""Resolving against an archive of our own, so that every case can be said: real apt, no network."""

from __future__ import annotations

import contextlib
import dataclasses
import http.server
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from local_archive import make_wheel, served
from lock_author import Author, author_in

from instar.errors import DefinitionError, LockMissing, ResolveError
from instar.lock.changes import changes, differences
from instar.model.digest import Digest
from instar.model.lock import Lock


@pytest.fixture
def author(tmp_path: Path) -> Iterator[Author]:
    with author_in(tmp_path) as author:
        yield author


def versions(lock: Lock) -> dict[str, str]:
    return {package.name: package.version for package in lock.packages}


def test_the_base_is_the_essential_packages_without_apt_and_the_rest_is_what_is_asked_for(author: Author) -> None:
    author.archive.add("web", "1:1.0+b1", depends="libweb", recommends="perl")
    author.archive.add("libweb", "1.0", suite="bookworm-security", depends="libc6")
    author.archive.publish(date=1_600_000_000)
    author.write("web", "bash")
    lock = author.lock()
    assert [package.name for package in lock.packages if package.step == "base"] == [
        "bash",
        "init-helpers",
        "libc6",
        "usr-is-merged",
    ]
    web, libweb = (next(one for one in lock.packages if one.name == name) for name in ("web", "libweb"))
    assert (web.version, web.label, web.suite, web.path) == ("1:1.0+b1", "Test", "bookworm", "pool/web_1%3a1.0+b1.deb")
    assert (libweb.label, libweb.suite, libweb.step) == ("Test Security", "bookworm-security", "packages")
    assert {package.name for package in lock.packages if package.step == "packages"} == {"web", "libweb"}
    assert lock.epoch == 1_600_000_000
    assert "127.0.0.1" not in repr(lock)


def test_python_comes_with_a_requirements_file(author: Author) -> None:
    author.write(python="# nothing yet\n")
    lock = author.lock()
    assert (lock.python, lock.wheels, "python3" in versions(lock)) == ("3.11", (), True)
    author.write()
    assert "python3" not in versions(author.lock(lock))


def test_a_lock_that_fits_is_returned_without_asking_anybody(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    author.write("perl")
    lock = author.lock()
    monkeypatch.setenv("INSTAR_APT_SOURCES", "/nonexistent/sources.list")
    assert author.lock(lock) == lock


def test_a_project_has_an_id_from_its_first_lock_on_whatever_else_moves(author: Author) -> None:
    author.write("perl")
    first, other = author.lock(), author.lock()
    assert re.fullmatch("[0-9a-f]{32}", first.id or "")
    assert other.id != first.id
    author.write("bash", "python3")
    assert author.lock(first, "all").id == first.id
    older = dataclasses.replace(first, id=None)
    assert re.fullmatch("[0-9a-f]{32}", author.lock(older).id or "")


def test_what_is_not_updated_keeps_its_version_while_the_archive_has_it(author: Author) -> None:
    author.archive.add("liba", "1.0")
    author.archive.add("libb", "1.0")
    author.archive.publish()
    author.write("liba", "libb")
    old = author.lock()
    author.archive.add("liba", "1.1", suite="bookworm-security")
    author.archive.add("libb", "1.1", suite="bookworm-security")
    author.archive.add("web", "1.0", depends="libb (>= 1.1)")
    author.archive.publish()

    author.write("liba", "libb", "perl")
    assert versions(author.lock(old)).items() >= {"liba": "1.0", "libb": "1.0", "perl": "5.36"}.items()

    author.write("liba", "libb")
    updated = author.lock(old, frozenset({"liba"}))
    assert versions(updated).items() >= {"liba": "1.1", "libb": "1.0"}.items()
    assert [(str(one), one.security) for one in changes(old, updated)] == [("  liba 1.0 → 1.1  (security)", True)]
    assert versions(author.lock(old, "all")).items() >= {"liba": "1.1", "libb": "1.1"}.items()

    author.write("liba", "libb", "web")
    assert versions(author.lock(old)).items() >= {"liba": "1.0", "libb": "1.1", "web": "1.0"}.items()


def reasons(lock: Lock) -> dict[str, str | None]:
    return {one.name: one.why for one in (*lock.packages, *lock.wheels)}


def unexplained(lock: Lock) -> Lock:
    """The lock as an Instar of before wrote it."""
    return dataclasses.replace(
        lock,
        id=None,
        packages=tuple(dataclasses.replace(one, why=None) for one in lock.packages),
        wheels=tuple(dataclasses.replace(one, why=None) for one in lock.wheels),
    )


def with_entry(lock: Lock, name: str, why: str | None) -> Lock:
    entry = dataclasses.replace(lock.packages[0], name=name, why=why, step="packages")
    return dataclasses.replace(
        lock, packages=tuple(sorted((*lock.packages, entry), key=lambda one: (one.step, one.name)))
    )


def test_a_lock_says_why_each_entry_is_there(author: Author) -> None:
    author.archive.add("web", "1.0", depends="libweb | libother, mail-agent (>= 1)")
    author.archive.add("libweb", "1.0", pre_depends="libc6 (>= 2)")
    author.archive.add("mailer", "1.0", provides="mail-agent (= 2)", depends="perl")
    author.archive.publish()
    for name, requires in (("flask", "click"), ("click", ""), ("server", "click")):
        make_wheel(author.folder, name, "1.0", requires=requires)
    author.write("web", "libc6=2.36-9", python="server\nflask==1.0\n")
    assert reasons(author.lock()) == {
        "bash": "essential",
        "init-helpers": "essential",
        "usr-is-merged": "essential",
        "libc6": "asked for",
        "python3": "asked for",
        "web": "asked for",
        "libweb": "needed by web",
        "mailer": "needed by web",
        "perl": "needed by mailer",
        "flask": "asked for",
        "server": "asked for",
        "click": "needed by flask",
    }


def test_a_lock_from_before_gets_its_reasons_and_nothing_moves(author: Author, monkeypatch: pytest.MonkeyPatch) -> None:
    author.archive.add("liba", "1.0")
    author.archive.publish()
    make_wheel(author.folder, "web", "1.0")
    author.write("liba", python="web\n")
    lock = author.lock()
    before = unexplained(lock)
    author.archive.add("liba", "1.1")
    author.archive.publish(date=1_800_000_000)
    make_wheel(author.folder, "web", "1.1")
    now = author.lock(before)
    assert now == dataclasses.replace(lock, id=now.id)
    assert author.lock(now) == now

    author.archive.remove("liba", "1.0")
    author.archive.publish(date=1_800_000_001)
    gone = author.lock(before)
    assert gone == dataclasses.replace(before, id=gone.id, wheels=lock.wheels)

    monkeypatch.setenv("INSTAR_APT_SOURCES", "/nonexistent/sources.list")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    offline = author.lock(before)
    assert offline == dataclasses.replace(before, id=offline.id)


@pytest.mark.parametrize("why", [None, "asked for", "needed by libc6", "needed by other"])
def test_an_entry_that_nothing_asks_for_goes(author: Author, why: str | None) -> None:
    author.write("perl")
    lock = author.lock()
    planted = with_entry(lock if why else unexplained(lock), "other", why)
    author.archive.add("other", "1.0")
    author.archive.publish()
    found = author.lock(planted, anew=True)
    assert "other" not in versions(found)
    assert "- other 5.2-1" in differences(planted, found)
    if why != "needed by libc6":  # a lie that only the file itself can show
        assert "other" not in versions(author.lock(planted))


def test_an_entry_that_is_missing_is_put_in_again(author: Author) -> None:
    author.write("perl")
    lock = author.lock()
    less = dataclasses.replace(lock, packages=tuple(one for one in lock.packages if one.name != "perl"))
    assert author.lock(less) == lock


def test_resolving_anew_keeps_what_there_is_and_tells_what_is_locked_otherwise(author: Author) -> None:
    author.archive.add("liba", "1.0")
    author.archive.publish()
    author.write("liba")
    lock = author.lock()
    author.archive.add("liba", "1.1", suite="bookworm-security")
    author.archive.publish()
    assert differences(lock, author.lock(lock, anew=True)) == ()

    other = dataclasses.replace(lock.packages[-1], sha256=Digest.of(b"other"))
    planted = dataclasses.replace(lock, packages=(*lock.packages[:-1], other))
    assert differences(planted, author.lock(planted, anew=True)) == (
        f"  liba 1.0: another file, SHA-256 {other.sha256.hex} → {lock.packages[-1].sha256.hex}",
    )


def test_a_version_that_is_gone_gives_way_when_something_else_moves(author: Author) -> None:
    author.archive.add("liba", "1.0")
    author.archive.publish()
    author.write("liba")
    old = author.lock()
    author.archive.remove("liba", "1.0")
    author.archive.add("liba", "1.1")
    author.archive.publish()
    assert author.lock(old) == old
    author.write("liba", "perl")
    assert versions(author.lock(old))["liba"] == "1.1"


def test_an_exact_version_is_honoured_in_the_base_too(author: Author) -> None:
    author.archive.add("libc6", "2.36-10", suite="bookworm-security")
    author.archive.publish()
    author.write("libc6=2.36-9", "python3=3.11.2-1")
    lock = author.lock()
    assert versions(lock)["libc6"] == "2.36-9"
    assert next(package for package in lock.packages if package.name == "libc6").step == "base"


def test_every_wrong_package_is_told_with_its_place_and_what_there_is(author: Author) -> None:
    author.archive.add("mailer", "1.0", provides="mail-agent")
    author.archive.add("perl", "5.35")
    author.archive.publish()
    author.write("pyhton3", "perl=5.99", "mail-agent", "bash")
    with pytest.raises(ResolveError) as caught:
        author.lock()
    assert str(caught.value).splitlines() == [
        f"{author.folder}/instar.yaml:4:14: cannot lock 'pyhton3': debian:bookworm has no such package;"
        " did you mean 'python3'?",
        f"{author.folder}/instar.yaml:4:23: cannot lock 'perl=5.99': there is no such version; there is 5.36, 5.35",
        f"{author.folder}/instar.yaml:4:34: cannot lock 'mail-agent': it is a virtual package; name one of mailer",
    ]


def test_packages_that_do_not_go_together_are_told_in_apts_words(author: Author) -> None:
    author.archive.add("one", "1.0", conflicts="other")
    author.archive.add("other", "1.0")
    author.archive.publish()
    author.write("one", "other")
    with pytest.raises(ResolveError, match=r"(?s)'one' \(.*:4:14\), 'other' \(.*:4:19\).*one : Conflicts: other"):
        author.lock()


def test_a_release_that_no_source_has_is_told_at_the_base(author: Author) -> None:
    author.write(base="debian:trixie")
    with pytest.raises(ResolveError, match=r"instar\.yaml:3:9: cannot find 'trixie'.*sources\.list"):
        author.lock()


def test_only_what_is_locked_can_be_updated(author: Author) -> None:
    author.write()
    with pytest.raises(LockMissing):
        author.lock(None, frozenset({"bash"}))
    lock = author.lock()
    with pytest.raises(ResolveError, match="cannot update 'nginx': it is not in"):
        author.lock(lock, frozenset({"nginx"}))


def test_a_missing_requirements_file_is_told_where_it_is_named(author: Author) -> None:
    author.write(python="x")
    (author.folder / "requirements.txt").unlink()
    with pytest.raises(DefinitionError, match=r"instar\.yaml:5:11: cannot find 'requirements\.txt'"):
        author.lock()


class Gated(http.server.SimpleHTTPRequestHandler):
    reached, opened = threading.Event(), threading.Event()

    def do_GET(self) -> None:
        self.reached.set()
        self.opened.wait(30)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        pass


LOCK_SCRIPT = """
import sys
from pathlib import Path
from instar.definition import load
from instar.lock.resolve import resolve
from instar.model.progress import silent
resolve(load(Path(sys.argv[1], "instar.yaml")), Path(sys.argv[1], "the cache"), None, None, silent)
"""


def has_open(pid: int, name: str) -> bool:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add(entry.readlink().name)
    return name in found


def test_a_killed_lock_stands_in_nobodys_way(author: Author) -> None:
    """Its apt-get lives on for a moment with the lists: the next one waits for that."""
    author.write()
    argv = [sys.executable, "-c", LOCK_SCRIPT, str(author.folder)]
    with served(author.archive.folder, partial(Gated, directory=str(author.archive.folder))) as address:
        (author.folder / "sources.list").write_text(f"deb [trusted=yes] {address} bookworm main\n")
        with subprocess.Popen(argv) as killed:
            assert Gated.reached.wait(30)
            killed.kill()
        with subprocess.Popen(argv) as following:
            deadline = time.monotonic() + 30
            while not has_open(following.pid, "in-use") and time.monotonic() < deadline:
                time.sleep(0.01)
            Gated.opened.set()
            assert following.wait(30) == 0
