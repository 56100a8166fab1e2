"""EROFS images: a tree of files becomes one file that the kernel can only read.

Uncompressed (lz4hc would take six times as long), the holes of sparse files left out where that spares much, with the
modification times, owners and extended attributes of the tree, overlay's whiteouts and opaque
directories among them. An image is derived from a layer and in no digest.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from pathlib import Path

from instar import durable, holes, process
from instar.errors import CommandFailed, HostError
from instar.model.digest import Digest

_UUID = "00000000-0000-4000-8000-000000000000"
_TIME = "4102444800"  # of the image itself, and the latest that a file's can be: the year 2100
_TIMEOUT_S = 1800
_SPARED_BYTES = 16 << 20  # fewer zeros than these are written out
_CHUNK_BYTES = 64 << 10
_TEMPORARY = Path("/tmp")  # noqa: S108 – where tmpfile(3) makes its files


def make(tree: Path, image: Path) -> Digest:
    """Make ``image`` of ``tree``; return its SHA-256. It appears whole or not at all. Raises HostError."""
    handle, name = tempfile.mkstemp(dir=image.parent, prefix=f".{image.name}.")
    temporary = Path(name)
    try:
        process.run(_command(tree, temporary), env={"SOURCE_DATE_EPOCH": _TIME}, timeout_s=_TIMEOUT_S)
        digest = digest_of(temporary)
        durable.move(temporary, image)
    except (CommandFailed, OSError) as error:
        raise HostError(f"cannot make the EROFS image '{image}': {error}", hint="is the disk full? df -h") from error
    finally:
        os.close(handle)
        temporary.unlink(missing_ok=True)
    return digest


def digest_of(image: Path) -> Digest:
    with durable.reader(image) as file:
        return Digest.from_hex(hashlib.file_digest(file, "sha256").hexdigest())


def _command(tree: Path, image: Path) -> list[str | Path]:
    options = ["--quiet", "-d0", "--preserve-mtime", "-U", _UUID]
    if _hole_bytes(os.fsencode(tree)) < _SPARED_BYTES or (beside := _beside(tree, image)) is None:
        return ["mkfs.erofs", *options, image, tree]
    # the same chunk, such as one of zeros, is kept once
    return [*beside, "mkfs.erofs", f"--chunksize={_CHUNK_BYTES}", *options, image, tree]


def _beside(tree: Path, image: Path) -> list[str | Path] | None:
    """Return what mkfs.erofs is run by, so that its own temporary file, of the chunks, is in the image's file system:
    it copies from it in a way that crosses no border (erofs-utils 1.5), and takes it in /tmp whatever TMPDIR says.

    None where a folder in the place of /tmp would hide what is worked on.
    """
    if image.parent.stat().st_dev == _TEMPORARY.stat().st_dev:
        return []
    if any(path.resolve().is_relative_to(_TEMPORARY) for path in (tree, image)):
        return None
    return ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" "$2" && shift 2 && exec "$@"', "sh", image.parent,
            _TEMPORARY]  # fmt: skip


def _hole_bytes(tree: bytes) -> int:
    found = 0
    for folder, _, names in os.walk(tree):
        for name in names:
            status = os.lstat(folder + b"/" + name)
            if stat.S_ISREG(status.st_mode) and holes.has_holes(status):
                found += status.st_size - status.st_blocks * 512
    return found
