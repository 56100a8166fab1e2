"""Packages and wheels by hash, through apt's downloader and pip, from loopback."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_archive import LocalArchive, fill, make_wheel, served

from instar.definition import Loaded, load
from instar.errors import FetchError, HashMismatch, ResolveError, SourceUnreachable
from instar.fetch.cache import Cache
from instar.fetch.fetch import fetch_all, inputs
from instar.lock.resolve import Update, resolve
from instar.model.digest import Digest
from instar.model.lock import Lock
from instar.model.progress import Progress, Report, silent

TOOL = b"a tool"


@dataclass
class World:
    folder: Path
    archive: LocalArchive
    wheels: Path
    cache: Cache

    def write(self, requirements: str) -> Loaded:
        (self.archive.folder / "tool").write_bytes(TOOL)
        fetch = f"{{url: '{self.archive.address}/tool', sha256: {Digest.of(TOOL).hex}, to: /opt/tool}}"
        (self.folder / "instar.yaml").write_text(
            "name: web\nimage:\n  base: debian:bookworm\n  packages: [c++lib]\n  python: requirements.txt\n"
            f'  fetch: [{fetch}]\nservice: {{command: [sleep, "1"]}}\nenvironments: {{dev: {{}}}}\n'
        )
        (self.folder / "requirements.txt").write_text(requirements)
        return load(self.folder / "instar.yaml")

    def lock(self, requirements: str, previous: Lock | None = None, update: Update = None) -> Lock:
        return resolve(self.write(requirements), self.cache.root, previous, update, silent)

    def fetch(self, lock: Lock, report: Report = silent, *, verify: bool = False) -> None:
        fetch_all(lock, self.write("web\n").definition, self.cache, report, verify=verify)


@contextmanager
def world_in(tmp_path: Path) -> Iterator[World]:
    folder, wheels = tmp_path / "archive", tmp_path / "wheels"
    folder.mkdir()
    wheels.mkdir()
    make_wheel(wheels, "web", "1.0", requires="speedups")
    make_wheel(wheels, "speedups", "2.0", "cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64")
    make_wheel(wheels, "speedups", "2.0", "cp311-cp311-manylinux_2_17_aarch64.manylinux2014_aarch64")
    with served(folder) as address, pytest.MonkeyPatch.context() as patch:
        archive = LocalArchive(folder, address)
        fill(archive)
        archive.add("c++lib", "1:1.0~rc1+b2", suite="bookworm-security")
        archive.publish()
        patch.setenv("INSTAR_APT_SOURCES", str(archive.sources(tmp_path / "sources.list")))
        patch.setenv("PIP_NO_INDEX", "1")
        patch.setenv("PIP_FIND_LINKS", str(wheels))
        yield World(tmp_path, archive, wheels, Cache(tmp_path / "cache"))


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with world_in(tmp_path) as world:
        yield world


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> Lock:
    """A lock made elsewhere: it names no host, so that it holds for the archive of every test."""
    with world_in(tmp_path_factory.mktemp("elsewhere")) as world:
        return world.lock("web\n")


def test_all_that_is_missing_comes_once_and_then_nobody_is_asked(
    world: World, lock: Lock, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[Progress] = []
    world.fetch(lock, told.append)
    wanted = inputs(lock, world.write("web\n").definition)
    assert len(wanted) == len(lock.packages) + 2 + 1
    for digest in wanted:
        world.cache.verify(digest)
    assert (told[-1].kind, told[-1].text.partition(" · ")[0]) == ("done", "9 of 9 files")

    monkeypatch.setenv("INSTAR_APT_SOURCES", "/nonexistent/sources.list")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    told.clear()
    world.fetch(lock, told.append)
    assert told == []


def test_a_damaged_file_is_found_and_fetched_anew(world: World, lock: Lock) -> None:
    world.fetch(lock)
    digest = lock.packages[0].sha256
    path = world.cache.find(digest)
    assert path is not None
    path.write_bytes(b"rotten")
    world.fetch(lock)
    assert path.read_bytes() == b"rotten"
    world.fetch(lock, verify=True)
    world.cache.verify(digest)


def test_a_second_archive_of_the_suite_stands_in_for_the_first(world: World, lock: Lock, tmp_path: Path) -> None:
    file = tmp_path / "sources.list"
    file.write_text("deb [trusted=yes] http://127.0.0.1:9 bookworm main\n" + file.read_text())
    world.fetch(lock)
    assert all(world.cache.find(package.sha256) for package in lock.packages)


def test_an_archive_on_this_machines_disk_is_copied_from(world: World, lock: Lock, tmp_path: Path) -> None:
    where = f"deb [trusted=yes] file://{world.archive.folder}"
    (tmp_path / "sources.list").write_text(f"{where} bookworm main\n{where} bookworm-security main\n")
    world.fetch(lock)
    assert not any(world.cache.verify(package.sha256).is_symlink() for package in lock.packages)
    assert (world.archive.folder / lock.packages[0].path).is_file()


def test_a_package_that_is_gone_is_told_with_what_to_do(world: World, lock: Lock) -> None:
    next(world.archive.folder.glob("pool/c++lib_*")).unlink()
    with pytest.raises(FetchError, match=r"'c\+\+lib' 1:1.0~rc1\+b2: it is no longer in .*'Test Security") as caught:
        world.fetch(lock)
    assert caught.value.hint == "instar lock --update c++lib"
    assert world.cache.find(next(one for one in lock.packages if one.name == "bash").sha256)


def test_a_package_with_other_bytes_is_refused_showing_both_hashes(world: World, lock: Lock) -> None:
    package = next(one for one in lock.packages if one.name == "bash")
    (world.archive.folder / package.path).write_bytes(b"other bytes")
    with pytest.raises(HashMismatch) as caught:
        world.fetch(lock)
    assert package.sha256.hex in str(caught.value)
    assert Digest.of(b"other bytes").hex in str(caught.value)
    assert world.cache.find(package.sha256) is None


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("deb [trusted=yes] http://127.0.0.1:9 {} main\n", "the archive 'Test.*' does not answer: .*refused"),
        ("deb [trusted=yes] file:///nonexistent {} main\n", "it is no longer in the archive"),
    ],
)
def test_an_archive_that_is_not_there_is_named(world: World, lock: Lock, tmp_path: Path, line: str, cause: str) -> None:
    (tmp_path / "sources.list").write_text(line.format("bookworm") + line.format("bookworm-security"))
    with pytest.raises(FetchError, match=cause):
        world.fetch(lock)


def test_a_suite_that_this_machine_has_not_is_named(world: World, lock: Lock, tmp_path: Path) -> None:
    (tmp_path / "sources.list").write_text(f"deb [trusted=yes] {world.archive.address} bookworm main\n")
    with pytest.raises(SourceUnreachable, match="none of this machine's apt sources has 'Test Security bookworm-sec"):
        world.fetch(lock)


def test_a_wheel_with_other_bytes_is_refused_and_one_that_is_gone_is_told(world: World, lock: Lock) -> None:
    (wheel,) = [one for one in lock.wheels if one.name == "web"]
    changed = make_wheel(world.wheels, "web", "1.0")
    with pytest.raises(HashMismatch, match=wheel.sha256.hex) as caught:
        world.fetch(lock)
    assert Digest.of(changed.read_bytes()).hex in str(caught.value)
    changed.unlink()
    with pytest.raises(
        FetchError, match=r"'web-1\.0-py3-none-any\.whl': the package index that this .* has no 'web' at all"
    ):
        world.fetch(lock)


def test_an_index_that_does_not_answer_is_told(world: World, lock: Lock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_FIND_LINKS", "/nonexistent")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(SourceUnreachable, match=r"the package index does not answer: .*refused"):
        world.fetch(lock)
    with pytest.raises(SourceUnreachable, match=r"the package index does not answer: .*refused"):
        world.lock("other\n", lock)


def test_wheels_that_fit_are_locked_and_their_versions_kept(world: World, lock: Lock) -> None:
    machine = {"amd64": "x86_64", "arm64": "aarch64"}[lock.architecture]
    assert [(one.name, one.version) for one in lock.wheels] == [("speedups", "2.0"), ("web", "1.0")]
    assert lock.wheels[0].filename.endswith(f"manylinux2014_{machine}.whl")
    make_wheel(world.wheels, "web", "1.1")
    make_wheel(world.wheels, "other", "1.0")
    kept = world.lock("web\nother\n", lock)
    assert [(one.name, one.version) for one in kept.wheels] == [("other", "1.0"), ("speedups", "2.0"), ("web", "1.0")]
    assert kept.packages == lock.packages
    updated = world.lock("web\nother\n", kept, frozenset({"Web"}))
    assert {one.name: one.version for one in updated.wheels}["web"] == "1.1"
    assert dataclasses.replace(updated, wheels=kept.wheels) == kept


@pytest.mark.parametrize(
    ("requirement", "cause", "hint"),
    [
        ("foreign==1.0", r"'foreign==1\.0' \(requirements\.txt:2\): .*no wheels with a matching platform", "win_amd64"),
        ("newer", r"'newer' \(requirements\.txt:2\): ", "cp313"),
        ("nowhere", r"'nowhere' \(requirements\.txt:2\): .*nowhere was not found", ""),
        (
            f"web --hash=sha256:{'0' * 64}",
            r"requirements\.txt:2: cannot lock 'web': no wheel of 1\.0 has a hash",
            "web-1",
        ),
    ],
)
def test_a_requirement_without_a_wheel_is_told_with_its_line(
    world: World, lock: Lock, requirement: str, cause: str, hint: str
) -> None:
    make_wheel(world.wheels, "foreign", "1.0", "cp311-cp311-win_amd64")
    make_wheel(world.wheels, "newer", "1.0", "cp313-cp313-manylinux_2_17_x86_64")
    with pytest.raises(ResolveError, match=cause) as caught:
        world.lock(f"# what the service needs\n{requirement}\n", lock)
    assert hint in (caught.value.hint or "")
