"""Which of the author's files an image gets."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from instar.bake.files import sources
from instar.bake.files import step as files
from instar.bake.files.copies import never_copied
from instar.bake.files.excluded import excluded, surprises
from instar.bake.files.sources import Copy, UnusableFile
from instar.bake.root import Root
from instar.definition import load


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app/static").mkdir(parents=True)
    (tmp_path / "app/main.py").write_text("main")
    (tmp_path / "app/static/page").write_text("page")
    return tmp_path


def paths(folder: Path, source: str = "app", exclude: tuple[str, ...] = (), never: tuple[str, ...] = ()) -> list[str]:
    patterns, out = excluded(exclude, 1), frozenset(folder / name for name in never)
    _, found = sources.find(folder, source, exclude=patterns, never=out)
    return [one.path for one in found]


def refused(folder: Path, source: str = "app") -> str:
    with pytest.raises(UnusableFile) as caught:
        paths(folder, source)
    return str(caught.value)


def test_a_folder_gives_what_is_in_it_each_directory_before_what_it_holds(folder: Path) -> None:
    assert paths(folder) == ["main.py", "static", "static/page"]


def test_a_file_gives_itself(folder: Path) -> None:
    origin, found = sources.find(folder, "app/main.py", exclude=None, never=frozenset())
    assert (origin, [one.path for one in found]) == (folder / "app/main.py", [""])


def test_always_left_out(folder: Path) -> None:
    for name in (".git", "__pycache__", "static/__pycache__"):
        (folder / "app" / name).mkdir()
        (folder / "app" / name / "x").touch()
    (folder / "app/.env").touch()
    assert paths(folder) == ["main.py", "static", "static/page"]


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("*.py", ["static", "static/page"]),
        ("static", ["main.py"]),
        ("static/", ["main.py"]),
        ("static/*", ["main.py", "static"]),
        ("page", ["main.py", "static"]),
        ("[", ["main.py", "static", "static/page"]),
    ],
)
def test_in_bake_format_1_a_pattern_is_compared_with_path_and_name(folder: Path, pattern: str, left: list[str]) -> None:
    assert paths(folder, exclude=(pattern,)) == left


@pytest.mark.parametrize(
    ("patterns", "copied"),
    [
        (["**/*.log"], ["keep.md", "main.py", "secrets", "secrets/key", "static", "static/page"]),
        (["/secrets"], ["keep.md", "main.py", "static", "static/page", "static/x.log", "top.log"]),
        (["*.log", "*.md", "!keep.md", "secrets/*"], ["keep.md", "main.py", "secrets", "static", "static/page"]),
        (["*", "!static"], ["static"]),
        (["secrets/", "!secrets/key"], ["keep.md", "main.py", "static", "static/page", "static/x.log", "top.log"]),
    ],
)
def test_patterns_are_those_of_gitignore(folder: Path, patterns: list[str], copied: list[str]) -> None:
    (folder / "app/secrets").mkdir()
    for name in ("keep.md", "top.log", "static/x.log", "secrets/key"):
        (folder / "app" / name).touch()
    _, found = sources.find(folder, "app", exclude=excluded(patterns, 2), never=frozenset())
    assert [one.path for one in found] == copied


def test_what_bake_format_1_copies_though_gitignore_would_not_is_named() -> None:
    copied = [("secrets", True), ("secrets/key", False), ("static", True), ("top.log", False)]
    assert surprises(["/secrets", "**/*.log"], copied) == ("secrets", "top.log")
    assert surprises(["*.py"], copied) == ()


def test_what_must_never_be_copied_is_left_out_wherever_it_lies(folder: Path) -> None:
    (folder / "app/token").touch()
    assert paths(folder, never=("app/token",)) == ["main.py", "static", "static/page"]
    with pytest.raises(UnusableFile, match="'app/token' is a secret"):
        paths(folder, "app/token", never=("app/token",))


def test_a_link_inside_is_copied_as_it_is(folder: Path) -> None:
    (folder / "app/static/again").symlink_to("../main.py")
    (folder / "app/nowhere").symlink_to("gone")
    _, found = sources.find(folder, "app", exclude=None, never=frozenset())
    assert {one.path: one.content for one in found if one.kind == "link"} == {
        "static/again": "../main.py",
        "nowhere": "gone",
    }


@pytest.mark.parametrize("target", ["/etc/passwd", "../../x", "../app2"])
def test_a_link_that_leads_out_is_refused(folder: Path, target: str) -> None:
    (folder / "app/bad").symlink_to(target)
    assert (
        refused(folder)
        == f"'app/bad' is a link that leads out of what is copied, to '{target}'; 'keep: [links]' copies it as it is"
    )


def test_a_source_that_leads_out_of_the_folder_is_refused(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (folder / "out").symlink_to(outside)
    assert refused(folder, "out") == f"'out' leads out of the definition's folder, to '{outside}'"


def test_what_is_missing_is_named(folder: Path) -> None:
    assert refused(folder, "gone/x") == "'gone/x' is missing"
    (folder / "circle").symlink_to("circle")
    assert "'circle'" in refused(folder, "circle")


def test_a_pipe_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "app/pipe")
    assert refused(folder) == "'app/pipe' is a pipe and cannot be copied"


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "app").mkdir()
    monkeypatch.chdir(tmp_path / "app")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert refused(tmp_path) == "'app/socket' is a socket and cannot be copied"


def test_only_the_owners_execute_bit_counts(folder: Path) -> None:
    (folder / "app/main.py").chmod(0o711)
    (folder / "app/static/page").chmod(0o677)
    _, found = sources.find(folder, "app", exclude=None, never=frozenset())
    assert {one.path: one.executable for one in found if one.kind == "file"} == {"main.py": True, "static/page": False}


def test_what_a_copy_would_show_makes_another_identity(folder: Path) -> None:
    def identity() -> str:
        return sources.identity(sources.find(folder, "app", exclude=None, never=frozenset())[1])

    seen = [identity()]
    (folder / "app/main.py").touch()
    assert identity() == seen[0]
    (folder / "app/main.py").chmod(0o755)
    seen.append(identity())
    (folder / "app/empty").mkdir()
    seen.append(identity())
    (folder / "app/link").symlink_to("main.py")
    seen.append(identity())
    (folder / "app/main.py").rename(folder / "app/\udcff")
    seen.append(identity())
    assert len(set(seen)) == 5


def test_large_files_have_the_same_digest_however_they_are_read(folder: Path) -> None:
    import hashlib

    for size in ((1 << 20) - 1, 1 << 20, (1 << 20) + 1):
        (folder / "app/large").write_bytes(b"x" * size)
        _, found = sources.find(folder, "app/large", exclude=None, never=frozenset())
        assert found[0].content == hashlib.sha256(b"x" * size).hexdigest()


def test_a_directory_that_becomes_a_link_when_it_was_listed_is_not_followed(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "shadow").touch()
    scandir = os.scandir

    def swap(path: int | str) -> contextlib.AbstractContextManager[list[os.DirEntry[str]]]:
        with scandir(path) as found:
            entries = list(found)
        if not (folder / "moved").exists():
            (folder / "app/static").rename(folder / "moved")
            (folder / "app/static").symlink_to(outside)
        return contextlib.nullcontext(entries)

    monkeypatch.setattr(os, "scandir", swap)
    assert refused(folder) == "'app/static' cannot be read: Not a directory"


@pytest.mark.parametrize("size_bytes", [1, 2 << 20])
def test_a_file_that_becomes_a_link_when_it_was_looked_at_is_not_followed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    page, stat = folder / "app/static/page", os.stat
    page.write_bytes(b"x" * size_bytes)

    def swap(path: str | int, **options: Any) -> os.stat_result:
        status = stat(path, **options)
        if path == "page":
            page.rename(folder / "moved")
            page.symlink_to(folder / "moved")
        return status

    monkeypatch.setattr(os, "stat", swap)
    assert refused(folder) == "'app/static/page' cannot be read: Too many levels of symbolic links"


@pytest.mark.root
@pytest.mark.parametrize("swapped", ["app", "app/static", "app/static/page"])
def test_what_became_a_link_since_is_not_copied(folder: Path, tmp_path: Path, swapped: str) -> None:
    origin, found = sources.find(folder, "app", exclude=None, never=frozenset())
    (folder / swapped).rename(folder / "moved")
    (folder / swapped).symlink_to(folder / "moved")
    (tmp_path / "root").mkdir()
    copy = Copy(origin=origin, to="/srv", owner=(0, 0), mode=None, found=found, place="")
    with Root(tmp_path / "root", epoch=0) as root, pytest.raises(UnusableFile, match="was changed while it was baked"):
        files.copy_into(root, copy)


def test_what_would_be_read_for_minutes_is_refused_at_once(folder: Path) -> None:
    with (folder / "app" / "sparse").open("wb") as file:
        file.truncate(300 << 30)
    for source in ("app", "app/sparse"):
        assert "'app/sparse' has 322.1 GB: an entry of 'files' has room for 64 GiB" in refused(folder, source)


def test_the_room_is_for_all_of_an_entry_s_files_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "LARGEST_BYTES", 5_000)
    for number in range(2):
        (folder / "app" / f"{number}").write_bytes(bytes(2_000))
    assert len(paths(folder)) == 5
    (folder / "app" / "2").write_bytes(bytes(2_000))
    assert "has room for 64 GiB" in refused(folder)


def test_no_more_is_read_of_a_file_than_it_had(folder: Path) -> None:
    path = folder / "app" / "grows"
    path.write_bytes(bytes(3 << 20))
    descriptor = os.open(path, os.O_RDONLY)
    try:
        assert sources.sha256_of(descriptor, 2 << 20) == hashlib.sha256(bytes(2 << 20)).hexdigest()
    finally:
        os.close(descriptor)


def test_what_cannot_be_written_is_named(folder: Path) -> None:
    copy = Copy(origin=folder, to="/srv", owner=None, mode=None, found=(), place="")
    assert files._where(OSError(36, "File name too long", "a" * 255), copy) == f"'{'a' * 255}', below '/srv'"
    assert files._where(OSError(36, "File name too long", "srv/deep/er"), copy) == "'/srv/deep/er'"
    assert files._where(OSError(28, "No space left"), copy) == files._where(OSError(28, "", "srv"), copy) == "'/srv'"


def test_secrets_and_keys_of_all_environments_are_never_copied(tmp_path: Path) -> None:
    (tmp_path / "instar.yaml").write_text(
        "name: web\nimage: {base: debian:bookworm}\nservice: {command: [serve], port: 80}\nenvironments:\n"
        "  a: {listen: ':8080', secrets: {A: {file: app/a}, B: {source: vault}, D: {age: d}}}\n"
        "  b:\n    listen: {https: shop.example}\n    secrets: {C: {file: c}}\n"
        "    tls: {certificate: tls/shop.pem, key: tls/shop.key}\n"
    )
    found = never_copied(load(tmp_path / "instar.yaml"))
    names = {"instar.yaml", "instar.lock", "app/a", "c", "d", "tls/shop.key"}
    assert found == {tmp_path / name for name in names}
