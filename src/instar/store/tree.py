"""A tree in overlay form → a tar, the same bytes for the same tree on any machine.

Always true of the tar, and part of the bake format:
- members stand in the order of their names' bytes, a directory's name ending in ``/``; the root is the first, ``./``;
  an opaque marker is the first in its directory
- owners are numbers; times are whole seconds and at most ``epoch``; a whiteout is mode 0, root's, of ``epoch``
- of the names of one file, the first is the file and the others are hard links
- extended attributes: those that overlay.py carries
- sockets, pipes and devices don't exist in it: meeting one is an error
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from instar.errors import StoreError
from instar.store import overlay
from instar.store.header import BLOCK, DIRECTORY, HARD_LINK, REGULAR, SYMLINK, Entry, encode, padding

_CHUNK_BYTES = 1 << 20
_END = bytes(2 * BLOCK)
_REFUSED = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}


def archive(tree: Path, *, epoch: int) -> Iterator[bytes]:
    """Yield the tar of ``tree`` in chunks of about 1 MiB.

    Raises StoreError, naming the path inside the tree, for what a layer cannot hold or what cannot be read.
    """
    buffer = bytearray()
    for piece in _pieces(os.fsencode(tree) + b"/", epoch):
        buffer += piece
        if len(buffer) >= _CHUNK_BYTES:
            yield bytes(buffer)
            buffer.clear()
    yield bytes(buffer + _END)


def _pieces(root: bytes, epoch: int) -> Iterator[bytes]:
    first_names: dict[tuple[int, int], bytes] = {}
    for name, path in _walk(root):
        try:
            status = os.lstat(path)
            entry = _entry(name, path, status, first_names, epoch)
            yield encode(entry)
            if entry.kind == REGULAR and entry.size:
                yield from _content(path, entry.size)
            elif name.endswith(b"/") and _is_opaque(path):
                yield encode(_marker(name.removeprefix(b"./") + overlay.OPAQUE_MARKER, epoch))
        except OSError as error:
            raise _refusal(name, error.strerror or str(error)) from error
        except ValueError as error:
            raise _refusal(name, str(error)) from error


def _walk(root: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield (name in the tar, path on disk) in the tar's order, holding one directory's list a level."""
    waiting = [(b"./", root)]
    while waiting:
        name, path = waiting.pop()
        yield name, path
        if name.endswith(b"/"):
            prefix = name.removeprefix(b"./")
            try:
                with os.scandir(path) as found:
                    waiting += sorted(((prefix + _name(item), item.path) for item in found), reverse=True)
            except OSError as error:
                raise _refusal(name, error.strerror or str(error)) from error


def _name(item: os.DirEntry[bytes]) -> bytes:
    if item.is_dir(follow_symlinks=False):
        return item.name + b"/"
    if item.is_file(follow_symlinks=False) or item.is_symlink():
        return item.name
    return overlay.PREFIX + item.name if overlay.is_whiteout(item.stat(follow_symlinks=False)) else item.name


def _entry(
    name: bytes, path: bytes, status: os.stat_result, first_names: dict[tuple[int, int], bytes], epoch: int
) -> Entry:
    if overlay.is_whiteout(status):
        return _marker(name, epoch)
    if path.rpartition(b"/")[2].startswith(overlay.PREFIX):
        raise ValueError("in a layer, a name that begins with '.wh.' means that something was removed")
    entry = Entry(
        name=name,
        kind=_kind(status.st_mode),
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        mtime=max(0, min(status.st_mtime_ns // 10**9, epoch)),
    )
    if entry.kind == SYMLINK:
        entry.link = os.readlink(path)  # noqa: PTH115 - bytes, which Path doesn't take
        return entry
    if entry.kind == REGULAR:
        first = first_names.setdefault((status.st_dev, status.st_ino), name) if status.st_nlink > 1 else name
        if first != name:
            entry.kind, entry.link = HARD_LINK, first
            return entry
        entry.size = status.st_size
    entry.xattrs = _xattrs(path)
    return entry


def _kind(mode: int) -> bytes:
    if stat.S_ISREG(mode):
        return REGULAR
    if stat.S_ISDIR(mode):
        return DIRECTORY
    if stat.S_ISLNK(mode):
        return SYMLINK
    raise ValueError(f"{_REFUSED.get(stat.S_IFMT(mode), 'what it is')} cannot be part of an image")


def _marker(name: bytes, epoch: int) -> Entry:
    return Entry(name=name, kind=REGULAR, mtime=epoch)


def _xattrs(path: bytes) -> dict[str, bytes]:
    names = os.listxattr(path, follow_symlinks=False)
    if not names:
        return {}
    if entangled := overlay.ENTANGLED.intersection(names):
        raise ValueError(f"it has {min(entangled)}; mount the overlay with redirect_dir=off,metacopy=off")
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names if overlay.is_carried(name)}


def _is_opaque(path: bytes) -> bool:
    if overlay.OPAQUE_XATTR not in os.listxattr(path, follow_symlinks=False):
        return False
    return os.getxattr(path, overlay.OPAQUE_XATTR, follow_symlinks=False) == b"y"


def _content(path: bytes, size: int) -> Iterator[bytes]:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        missing = size
        while missing:
            chunk = os.read(descriptor, min(missing, _CHUNK_BYTES))
            if not chunk:
                raise ValueError("it became shorter while it was read")
            missing -= len(chunk)
            yield chunk
    finally:
        os.close(descriptor)
    yield padding(size)


def _refusal(name: bytes, cause: str) -> StoreError:
    shown = "/" + name.removeprefix(b"./").decode("utf-8", "backslashreplace")
    return StoreError(f"cannot store '{shown}': {cause}")
