"""Fetched files, put and unpacked: honest archives of every kind, and hostile ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zstandard
from bake_kit import World, hexadecimal, tar, tiny_packages

from instar.errors import FetchError, StepFailed

pytestmark = pytest.mark.root


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "world")
    yield made
    made.close()


def unpacked(world: World, data: bytes, *, cached: bool = True, to: str = "/opt/x") -> dict[str, bytes | str | None]:
    """Bake ``data`` unpacked; return what is there: content, a link's target, None for a directory."""
    if cached:
        world.cache.add([data])
    image = (
        "base: debian:test\n"
        f'fetch: [{{url: "https://example.org/x", sha256: "{hexadecimal(data)}", to: {to}, unpack: true}}]\n'
    )
    baked = world.bake(world.load(image), world.lock(tiny_packages(world)))
    found: dict[str, bytes | str | None] = {}
    with world.mounted(baked.image) as root:
        for path in sorted((root / to[1:]).rglob("*")):
            name = str(path.relative_to(root / to[1:]))
            assert (path.lstat().st_uid, path.lstat().st_gid) == (0, 0)
            found[name] = str(path.readlink()) if path.is_symlink() else None if path.is_dir() else path.read_bytes()
        assert {path.name for path in (root / "opt").iterdir()} == {"x"}
    return found


def zipped(files: dict[str, bytes], *, links: dict[str, str] | None = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
        for name, target in (links or {}).items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o120777 << 16
            archive.writestr(info, target)
    return buffer.getvalue()


TREE = {"top/": None, "top/file": b"content", "top/link": "file", "top/deep/er/x": b""}
FOUND = {"top": None, "top/file": b"content", "top/link": "file", "top/deep": None, "top/deep/er": None,
         "top/deep/er/x": b""}  # fmt: skip


@pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, lzma.compress, bz2.compress, zstandard.ZstdCompressor().compress]
)
def test_a_tar_is_unpacked_however_it_is_compressed(world: World, pack: Callable[[bytes], bytes]) -> None:
    assert unpacked(world, pack(tar(TREE))) == FOUND


def test_a_zip_is_unpacked(world: World) -> None:
    files = {"top/file": b"content", "top/deep/er/x": b""}
    assert unpacked(world, zipped(files, links={"top/link": "file"})) == FOUND


def test_hard_links_and_set_user_id(world: World) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("file")
        info.size, info.mode, info.uid = 1, 0o4755, 1000
        archive.addfile(info, io.BytesIO(b"x"))
        link = tarfile.TarInfo("again")
        link.type, link.linkname = tarfile.LNKTYPE, "file"
        archive.addfile(link)
    assert unpacked(world, buffer.getvalue()) == {"again": b"x", "file": b"x"}


def hostile(kind: bytes, name: str, link: str = "") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        archive.addfile(info)
    return buffer.getvalue()


def damaged(data: bytes) -> bytes:
    """A zip whose first member's deflated bytes are none."""
    at = data.index(b"PK\3\4") + 30 + data[26]
    return data[:at] + b"\7" + data[at + 1 :]


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (hostile(tarfile.REGTYPE, "../out"), "'../out' leads out of it"),
        (hostile(tarfile.REGTYPE, "/etc/out"), "'/etc/out' leads out of it"),
        (hostile(tarfile.SYMTYPE, "a/b", "../../etc"), "'a/b' is a link that leads out of it, to '../../etc'"),
        (hostile(tarfile.SYMTYPE, "a", "/etc"), "'a' is a link that leads out of it, to '/etc'"),
        (hostile(tarfile.LNKTYPE, "a", "../../etc/passwd"), "'../../etc/passwd' leads out of it"),
        (hostile(tarfile.LNKTYPE, "a", "b"), "'a' is a link to 'b', which is not in it"),
        (hostile(tarfile.CHRTYPE, "null"), "'null' is a device or a pipe"),
        (hostile(tarfile.FIFOTYPE, "pipe"), "'pipe' is a device or a pipe"),
        (hostile(tarfile.REGTYPE, "d/" * 1500 + "f"), "nested more than 256 deep"),
        (hostile(tarfile.DIRTYPE, "d/" * 301), "nested more than 256 deep"),
        (zipped({"d/" * 1500 + "f": b""}), "nested more than 256 deep"),
        (zipped({"../out": b""}), "'../out' leads out of it"),
        (zipped({}, links={"a": "/etc"}), "'a' is a link that leads out of it, to '/etc'"),
        (b"just some text", "it is neither a tar"),
        (gzip.compress(tar(TREE))[:-30], ""),
        (zipped({"x": b"x"})[:-10], ""),
        (damaged(zipped({"x": b"x" * 1000})), "it is damaged"),
        (zipped({}, links={"a": "x" * 5000}), "'a' has more than the 4,095 bytes that are allowed"),
        (b"", "it is neither a tar"),
    ],
)
def test_a_hostile_archive_is_refused_and_its_place_named(world: World, data: bytes, cause: str) -> None:
    with pytest.raises(StepFailed) as caught:
        unpacked(world, data)
    assert caught.value.message.startswith("cannot bake 'fetch': cannot unpack 'https://example.org/x': ")
    assert cause in caught.value.message
    assert caught.value.place == f"{world.folder}/instar.yaml:4:11"


def test_a_later_member_is_not_written_through_a_link(world: World) -> None:
    data = tar({"a": "b", "a/x": b"x"})
    with pytest.raises(StepFailed):
        unpacked(world, data)


def test_what_was_not_fetched_is_told(world: World) -> None:
    with pytest.raises(FetchError, match="it is not in the cache"):
        unpacked(world, tar(TREE), cached=False)
