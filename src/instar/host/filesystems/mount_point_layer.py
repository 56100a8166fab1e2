"""The cover: the topmost layer of an instance, where its image hides mount points that the base plate has.

A layer that makes a folder anew marks it opaque, as Debian's packages layer does with /var/lib/mosquitto: nothing below
shows through, so a mount point in it must lie above. The cover has that point and the folders on the way to it, each
with the owner, mode and time that it has in the image, since of a folder in several layers the topmost counts. It is
derived from just these, as the plate is from what it holds. Source: overlayfs.rst, whiteouts and opaque directories.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from instar.errors import HostError, InstarError
from instar.frozen import dataclass
from instar.model.codec import canonical
from instar.model.digest import Digest
from instar.model.image import Layer

if TYPE_CHECKING:
    from instar.host.filesystems.layers import LayerImages

_FORMAT = 1
_OPAQUE = "trusted.overlay.opaque"


@dataclass(frozen=True, kw_only=True, slots=True)
class Folder:
    """A folder of the cover; ``path`` is absolute inside."""

    path: str
    mode: int = 0o755
    uid: int = 0
    gid: int = 0
    mtime_ns: int = 0


def folders(lowers: Sequence[Path], points: Sequence[str]) -> tuple[Folder, ...]:
    """Return what a cover of ``lowers`` (mounted layers, topmost first) must have for ``points`` to be there.

    Nothing, where they are there already. A point at which there is a file or a link is left for others to refuse.
    """
    found: dict[str, Folder] = {}
    for point in points:
        way = list(_way(lowers, point))
        if any(seen is None for _, seen in way):
            found.update({path: _folder(path, seen) for path, seen in way})
    return tuple(found[path] for path in sorted(found))


def layer(wanted: Sequence[Folder]) -> Layer:
    """Return the cover that has these folders."""
    digest = Digest.of(canonical({"cover": _FORMAT, "folders": [asdict(folder) for folder in wanted]}))
    return Layer(digest=digest, diff_id=digest, size_bytes=0, step="cover")


def mount(images: LayerImages, wanted: Sequence[Folder]) -> Path:
    """Return where the cover is mounted; make and mount it first where it isn't. Raises HostError."""
    cover = layer(wanted)
    try:
        return images.mount(cover)
    except InstarError:  # no image of it yet, or one that is damaged: no store has it
        with tempfile.TemporaryDirectory(prefix="instar-cover-") as room:
            tree = Path(room) / "tree"
            _build(tree, wanted)
            images.provide(cover, tree)
        return images.mount(cover)


def _way(lowers: Sequence[Path], point: str) -> Iterator[tuple[str, os.stat_result | None]]:
    """Yield each folder on the way to ``point`` as the layers show it together, None from where there is none."""
    here, path = list(lowers), PurePosixPath("/")
    yield str(path), lowers[0].stat()
    for part in PurePosixPath(point).parts[1:]:
        path = path / part
        merged = list(_merged(here, part))
        if merged and not stat.S_ISDIR(merged[0].lstat().st_mode):
            return
        here = merged
        yield str(path), merged[0].lstat() if merged else None


def _merged(here: Sequence[Path], part: str) -> Iterator[Path]:
    """Yield what ``part`` is in folders that lie on one another: folders, or one file alone."""
    below_a_folder = False
    for folder in here:
        entry = folder / part
        try:
            seen = entry.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if stat.S_ISCHR(seen.st_mode) and seen.st_rdev == 0:  # a whiteout
            return
        if not stat.S_ISDIR(seen.st_mode):
            if not below_a_folder:
                yield entry
            return
        yield entry
        below_a_folder = True
        if _is_opaque(entry):
            return


def _is_opaque(folder: Path) -> bool:
    try:
        return os.getxattr(folder, _OPAQUE) == b"y"
    except OSError:
        return False


def _folder(path: str, seen: os.stat_result | None) -> Folder:
    if seen is None:
        return Folder(path=path)
    mode = stat.S_IMODE(seen.st_mode)
    return Folder(path=path, mode=mode, uid=seen.st_uid, gid=seen.st_gid, mtime_ns=seen.st_mtime_ns)


def _build(tree: Path, wanted: Sequence[Folder]) -> None:
    try:
        for folder in wanted:
            _inside(tree, folder).mkdir(mode=0o700)
        for folder in reversed(wanted):  # what is made in one changes its time
            path = _inside(tree, folder)
            os.chown(path, folder.uid, folder.gid)
            path.chmod(folder.mode)
            os.utime(path, ns=(folder.mtime_ns, folder.mtime_ns))
    except OSError as error:
        raise HostError(f"cannot make the mount points of an instance: {error}") from error


def _inside(tree: Path, folder: Folder) -> Path:
    return tree / folder.path.lstrip("/")
