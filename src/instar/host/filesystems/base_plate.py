"""The base plate: the lowest layer of every instance, made here and not by the image's author.

runc cannot make mount points on a read-only root, and an overlay needs two layers: the plate has the mount points and
the init. It is a layer like any other (EROFS, mounted once), derived from what it holds: its diff ID is the digest of
that, so that an instance, and who checks it, can name the very plate that it has.
"""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instar import process
from instar.errors import ComponentMissing, HostError, InstarError
from instar.model.codec import canonical
from instar.model.digest import Digest
from instar.model.image import Layer

if TYPE_CHECKING:
    from instar.host.filesystems.layers import LayerImages

INIT = "/.instar/init"
OWN_FOLDER = "/.instar"
FOLDERS = ("/dev", "/etc", "/proc", "/run", "/sys", "/tmp")  # noqa: S108 - names inside a root
FILES = ("/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
_FORMAT = 1
_PROGRAM = "catatonit"


def layer(points: Sequence[str] = ()) -> Layer:
    """Return the plate that has ``points`` (absolute, without links) as mount points too. Raises ComponentMissing."""
    program = _program()
    recipe = {"format": _FORMAT, "init": _hash(program, _identity(program)), "points": sorted(set(points))}
    digest = Digest.of(canonical(recipe))
    return Layer(digest=digest, diff_id=digest, size_bytes=0, step="plate")


def mount(images: LayerImages, points: Sequence[str] = ()) -> Path:
    """Return where the plate with ``points`` is mounted; make and mount it first where it isn't. Raises HostError."""
    plate = layer(points)
    try:
        return images.mount(plate)
    except InstarError:  # no image of it yet, or one that is damaged: no store has the plate
        import tempfile

        with tempfile.TemporaryDirectory(prefix="instar-plate-") as room:
            tree = Path(room) / "tree"
            _build(tree, points)
            images.provide(plate, tree)
        return images.mount(plate)


def _build(tree: Path, points: Sequence[str]) -> None:
    try:
        for folder in (OWN_FOLDER, *FOLDERS, *points):
            _inside(tree, folder).mkdir(parents=True, exist_ok=True)
        for file in FILES:
            _inside(tree, file).touch()
        shutil.copyfile(_program(), _inside(tree, INIT))
        _make_plain(tree)
    except OSError as error:
        raise HostError(f"cannot make the base plate: {error}") from error


def _make_plain(tree: Path) -> None:
    """Give everything the one mode and time that it has in every plate, whatever the umask and the clock."""
    for folder, _, files in os.walk(tree):
        for file in files:
            path = Path(folder, file)
            path.chmod(0o755 if path == _inside(tree, INIT) else 0o644)
            os.utime(path, (0, 0))
        Path(folder).chmod(0o755)
        os.utime(folder, (0, 0))


def _inside(tree: Path, path: str) -> Path:
    return tree / path.lstrip("/")


def _program() -> Path:
    found = process.find_program(_PROGRAM)
    if found is None:
        raise ComponentMissing(
            "cannot make the base plate: catatonit is not installed", hint="apt-get install catatonit"
        )
    return found


def _identity(path: Path) -> tuple[int, int, int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


@functools.lru_cache(maxsize=4)
def _hash(path: Path, _identity: tuple[int, int, int, int]) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
