"""The members of a tar that nobody vouches for → a tree in overlay form.

Always true:
- nothing is written, linked or looked at outside the root: every path is walked from the root's descriptor, one
  directory at a time, and never through a symbolic link
- a file is only ever created, never opened to write because it was there
- no device, pipe or socket is made, but the device 0/0 that means "removed"; overlay's private attributes come from
  whiteouts alone

Whiteouts mean what lies in the layers beneath, never what the same layer holds, whichever comes first in the tar.
Source: OCI image-spec 1.1, layer.md, Whiteouts.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable
from typing import Final

from instar import holes
from instar.store import overlay
from instar.store.header import DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry
from instar.store.members import Malformed

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAME_LIMIT_BYTES: Final = 4095  # Linux's PATH_MAX
_IMPLIED = Entry(name=b"", kind=DIRECTORY, mode=0o755)

Path = tuple[bytes, ...]  # from the root, without "." and ".."


class Extraction:
    """Builds a tree in the directory ``root`` (a descriptor, which stays the caller's)."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._directories: dict[Path, Entry] = {(): _IMPLIED}
        self._opened: tuple[Path, int] | None = None  # the directory that was used last

    def close(self) -> None:
        """Free what is open. The tree is whole only when :meth:`finish` was called before."""
        if self._opened:
            os.close(self._opened[1])
            self._opened = None

    def add(self, entry: Entry, content: Iterable[memoryview]) -> None:
        """Add one member. Raises Malformed for one that is refused, OSError for what the file system refuses."""
        path = _path(entry.name)
        *above, name = path or (b"",)
        if any(part.startswith(overlay.PREFIX) for part in above):
            raise Malformed("it lies in what was removed")
        if not path:
            self._add_directory((), entry)
        elif name.startswith(overlay.PREFIX):
            self._add_whiteout(tuple(above), name, entry)
        elif entry.kind == DIRECTORY:
            self._add_directory(path, entry)
        elif entry.kind == REGULAR:
            self._add_file(tuple(above), name, entry, content)
        elif entry.kind == SYMLINK:
            self._add_symlink(tuple(above), name, entry)
        elif entry.kind == HARD_LINK:
            self._add_hard_link(tuple(above), name, entry)
        else:
            raise Malformed("a device or a pipe cannot be part of an image")

    def finish(self) -> None:
        """Give the directories their owners, modes, attributes and times, which what was put in would change."""
        for path, entry in self._directories.items():
            dress(self._directory(path), entry)

    def _add_directory(self, path: Path, entry: Entry) -> None:
        if entry.kind != DIRECTORY:
            raise Malformed("the root is a directory")
        self._directory(path)
        self._directories[path] = entry

    def _add_file(self, above: Path, name: bytes, entry: Entry, content: Iterable[memoryview]) -> None:
        parent = self._directory(above)
        _make_room(parent, name)
        descriptor = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            holes.write(descriptor, content)
            dress(descriptor, entry)
        finally:
            os.close(descriptor)

    def _add_symlink(self, above: Path, name: bytes, entry: Entry) -> None:
        parent = self._directory(above)
        _make_room(parent, name)
        os.symlink(entry.link, name, dir_fd=parent)
        os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
        os.utime(name, (entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)

    def _add_hard_link(self, above: Path, name: bytes, entry: Entry) -> None:
        *target_above, target = _path(entry.link) or (b"",)
        source = os.dup(self._directory(tuple(target_above), make=False))
        try:
            if not stat.S_ISREG(os.stat(target, dir_fd=source, follow_symlinks=False).st_mode):
                raise Malformed("it is a link to what is no file")
            if (*target_above, target) != (*above, name):
                parent = self._directory(above)
                _make_room(parent, name)
                os.link(target, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as error:
            raise Malformed("it is a link to a file that the layer doesn't have") from error
        finally:
            os.close(source)

    def _add_whiteout(self, above: Path, marker: bytes, entry: Entry) -> None:
        name = marker.removeprefix(overlay.PREFIX)
        if entry.kind != REGULAR or name in (b"", b".", b".."):
            raise Malformed("it is no well-formed whiteout")
        if marker == overlay.OPAQUE_MARKER:
            os.setxattr(self._directory(above), overlay.OPAQUE_XATTR, b"y")
            return
        if name.startswith(overlay.PREFIX):
            raise Malformed("it is a whiteout of a kind that isn't known")
        parent = self._directory(above)
        status = _find(parent, name)
        if status is None:
            os.mknod(name, stat.S_IFCHR | 0o000, os.makedev(0, 0), dir_fd=parent)
            os.utime(name, (entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)
        elif stat.S_ISDIR(status.st_mode):
            os.setxattr(self._directory((*above, name)), overlay.OPAQUE_XATTR, b"y")

    def _directory(self, path: Path, *, make: bool = True) -> int:
        """Return a descriptor of the directory, made where it is missing; valid until the next call."""
        if self._opened and self._opened[0] == path:
            return self._opened[1]
        descriptor = os.dup(self._root)
        try:
            for depth, name in enumerate(path, start=1):
                below = self._enter(descriptor, name, path[:depth], make=make)
                os.close(descriptor)
                descriptor = below
        except BaseException:
            os.close(descriptor)
            raise
        self.close()
        self._opened = (path, descriptor)
        return descriptor

    def _enter(self, parent: int, name: bytes, path: Path, *, make: bool) -> int:
        try:
            return os.open(name, _OPEN, dir_fd=parent)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise
        status = _find(parent, name)
        if status is not None and not overlay.is_whiteout(status):
            raise Malformed(f"it leads through '{_shown(path)}', which is no directory")
        if not make:
            raise Malformed("it is a link to a file that the layer doesn't have")
        if status is not None:
            os.unlink(name, dir_fd=parent)
        os.mkdir(name, 0o700, dir_fd=parent)
        self._directories.setdefault(path, _IMPLIED)
        descriptor = os.open(name, _OPEN, dir_fd=parent)
        if status is not None:
            os.setxattr(descriptor, overlay.OPAQUE_XATTR, b"y")
        return descriptor


def dress(descriptor: int, entry: Entry, *, carried: Callable[[str], bool] = overlay.is_carried) -> None:
    """Give a file or directory its owner, the attributes that are ``carried``, mode and time. Raises OSError."""
    os.fchown(descriptor, entry.uid, entry.gid)  # first: it takes set-user-ID and capabilities away
    for name, value in entry.xattrs.items():
        if carried(name):
            os.setxattr(descriptor, name, value)
    os.fchmod(descriptor, entry.mode)
    os.utime(descriptor, (entry.mtime, entry.mtime))


def _make_room(parent: int, name: bytes) -> None:
    """Take away what an earlier member of the same name left. A directory is never replaced by something else."""
    status = _find(parent, name)
    if status is None:
        return
    if stat.S_ISDIR(status.st_mode):
        raise Malformed("it was a directory before")
    os.unlink(name, dir_fd=parent)


def _find(parent: int, name: bytes) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _path(name: bytes) -> Path:
    if len(name) > _NAME_LIMIT_BYTES:
        raise Malformed("a name is too long")
    parts = tuple(part for part in name.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise Malformed("a name leads out of the root")
    if len(parts) > overlay.DEEPEST + 1:
        raise Malformed(f"it is nested more than {overlay.DEEPEST} deep")
    return parts


def _shown(path: Path) -> str:
    return "/" + b"/".join(path).decode("utf-8", "backslashreplace")
