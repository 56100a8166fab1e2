"""What chance does to packages, layers and downloads: each is read or refused, in bounded time and memory."""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import os
import random
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from bake_kit import deb, tar

from instar.bake.debian.bootstrap import unpack
from instar.bake.files.downloads import unpack_into
from instar.bake.root import Root
from instar.errors import BakeError
from instar.model.digest import Digest
from instar.model.lock import Package
from instar.store.extraction import Extraction
from instar.store.members import Malformed, Members, Stream

FILES = {"d/": None, "d/file": b"content " * 40, "d/link": "file", "d/deep/": None, "d/deep/x": b"", "a": b"\0" * 2000}
SHORT, LONG = 60, 5_000
SECONDS, BYTES = 2.0, 96 << 20


def package() -> bytes:
    return deb("tiny", FILES, control={"./conffiles": b"/d/file\n", "./triggers": b"interest x\n"})


def archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in FILES.items():
            made.writestr(name, content or b"")
    return out.getvalue()


def read_package(data: bytes, folder: Path) -> None:
    (folder / "x.deb").write_bytes(data)
    entry = Package(
        name="tiny", version="1", architecture="amd64", size_bytes=len(data), sha256=Digest.of(data), label="",
        suite="x", path="x.deb", step="base",
    )  # fmt: skip
    (folder / "tree").mkdir()
    unpack([(entry, folder / "x.deb")], folder / "tree", "amd64")


def read_layer(data: bytes, folder: Path) -> None:
    members = Members(Stream(iter([data]), limit_bytes=16 << 20))
    root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    extraction = Extraction(root)
    try:
        for entry in members:
            extraction.add(entry, members.content())
        extraction.finish()
    finally:
        extraction.close()
        os.close(root)


def read_download(data: bytes, folder: Path) -> None:
    (folder / "x").write_bytes(data)
    (folder / "root").mkdir()
    with Root(folder / "root", epoch=0) as root:
        unpack_into(folder / "x", "/opt", root)


KINDS: dict[str, tuple[Callable[[], bytes], Callable[[bytes, Path], None]]] = {
    "package": (package, read_package),
    "layer": (lambda: tar(FILES), read_layer),
    "download-tar": (lambda: tar(FILES), read_download),
    "download-gz": (lambda: gzip.compress(tar(FILES), mtime=0), read_download),
    "download-xz": (lambda: lzma.compress(tar(FILES)), read_download),
    "download-zip": (archive, read_download),
}


def damaged(whole: bytes, chance: random.Random) -> bytes:
    """Flip, cut, repeat and put numbers where numbers are."""
    data = bytearray(whole)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) or 1)
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.choice((1, 7, 512, 5000))]
            case 2:
                data[at:at] = data[at : at + chance.choice((1, 512, 2000))]
            case 3:
                data[at : at + 8] = chance.choice(
                    (b"77777777", b"\xff" * 8, b"\0" * 8, b"../../..", b"\x80" + b"\0" * 7)
                )
            case _:
                del data[at:]
    return bytes(data)


def attempt(kind: str, folder: Path, seeds: range) -> None:
    make, reader = KINDS[kind]
    whole = make()
    for seed in seeds:
        place = folder / str(seed)
        place.mkdir()
        started = time.process_time()
        # what the file system refuses (a name too long, a path through a file) is an OSError, which the steps wrap
        with contextlib.suppress(BakeError, Malformed, OSError):
            reader(damaged(whole, random.Random(f"{kind} {seed}")), place)
        assert time.process_time() - started < SECONDS, f"{kind}, seed {seed}"


def test_what_is_whole_is_read(tmp_path: Path) -> None:
    for kind, (make, reader) in KINDS.items():
        (tmp_path / kind).mkdir()
        reader(make(), tmp_path / kind)


@pytest.mark.root
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_damaged_is_read_or_refused(kind: str, tmp_path: Path) -> None:
    attempt(kind, tmp_path, range(SHORT))


@pytest.mark.root
@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_what_is_damaged_is_read_or_refused_many_times(kind: str, tmp_path: Path) -> None:
    attempt(kind, tmp_path, range(SHORT, LONG))


@pytest.mark.root
@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_what_unfolds_to_a_hundred_times_its_size_takes_no_memory(
    compress: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    data = compress(tar({"large": bytes(64 << 20)}))
    tracemalloc.start()
    try:
        read_download(data, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < BYTES
    finally:
        tracemalloc.stop()
    assert (tmp_path / "root/opt/large").stat().st_size == 64 << 20
