"""What unfolds to more than a disk holds is refused before it fills the disk, and what is damaged here is mended."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from import_kit import LAYER, layout, member, tar_of
from registry_kit import small_disk
from test_import import require_refused, unpacked, written

from instar.errors import StoreError
from instar.operations.transfers import import_image
from instar.store.compression import compressed, gzipped
from simulated.workspace import SimulatedWorkspace

pytestmark = pytest.mark.root


def bomb(told_bytes: int, files: int = 1) -> Iterator[bytes]:
    """Yield the tar of files of zeros, in chunks."""
    for number in range(files):
        info = tarfile.TarInfo(f"zeros-{number}")
        info.size = told_bytes
        yield info.tobuf(tarfile.GNU_FORMAT)
        left = told_bytes
        while left:
            piece = bytes(min(left, 1 << 20))
            left -= len(piece)
            yield piece
    yield bytes(1024)


@pytest.mark.parametrize("files", [1, 64])
@pytest.mark.parametrize("form", ["gzip", "zstd"])
def test_an_archive_that_unfolds_to_more_than_the_disk_holds(tmp_path: Path, form: str, files: int) -> None:
    path = tmp_path / "image.tar"
    pack = gzipped if form == "gzip" else compressed
    path.write_bytes(b"".join(pack(bomb((64 << 20) // files, files))))
    with small_disk(tmp_path / "small", "24m") as small:
        workspace = SimulatedWorkspace(small / "home")
        before = os.statvfs(small).f_bavail
        require_refused(workspace, path, f"bytes that there is room for at '{small}'")
        assert os.statvfs(small).f_bavail >= before - 16


def test_a_layer_that_unfolds_to_more_than_the_disk_holds(tmp_path: Path) -> None:
    data = tar_of([member("zeros", bytes(16 << 20))])
    path = written(tmp_path, layout(data))
    with small_disk(tmp_path / "small", "24m") as small:  # for it, but not for the image of it as well
        workspace = SimulatedWorkspace(small / "home")
        with pytest.raises(StoreError, match=f"more than the .* bytes that there is room for at '{small}'"):
            import_image(workspace, path)
        assert workspace.store.digests() == ()
        assert sum(file.stat().st_size for file in small.rglob("*") if file.is_file()) < 1 << 20


def test_a_blob_that_the_disk_cannot_hold_is_not_begun(tmp_path: Path) -> None:
    folder = unpacked(tmp_path, layout(LAYER, manifest=lambda data: data["layers"][0].update(size=64 << 20)))
    (layer,) = (one for one in (folder / "blobs/sha256").iterdir() if one.read_bytes()[:2] == b"\x1f\x8b")
    os.truncate(layer, 64 << 20)  # a hole
    with small_disk(tmp_path / "small", "24m") as small:
        workspace = SimulatedWorkspace(small / "home")
        with pytest.raises(StoreError, match=r"64 MiB are to come, and the file system at '.*' has room for"):
            import_image(workspace, folder)
        assert not any((workspace.store.root / "partial").iterdir())


def test_an_import_mends_what_is_damaged_here(tmp_path: Path) -> None:
    workspace = SimulatedWorkspace(tmp_path / "home")
    path = written(tmp_path, layout(LAYER))
    image = import_image(workspace, path)
    for digest in (image.digest, image.config_digest, image.layers[0].digest):
        damaged = workspace.store.path(digest)
        damaged.chmod(0o600)
        damaged.write_bytes(bytes([damaged.read_bytes()[0] ^ 1]) + damaged.read_bytes()[1:])
        assert import_image(workspace, path) == image
        workspace.store.verify(digest)
