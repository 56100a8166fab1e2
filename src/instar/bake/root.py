"""A step's root file system, written from outside: no name in it leads out of it.

Every path is resolved by the kernel as if this root were ``/`` (openat2, RESOLVE_IN_ROOT), so that a link such as
``/bin`` → ``usr/bin`` is followed where the image's own programs would follow it. The root is quiet: nothing else
writes to it meanwhile.

A file's time is derived from its content, within the ten years before the epoch. A web server makes a file's ETag of
its size and time: were all times of an image one, an edit that keeps a file's size would keep its ETag, and caches
would go on serving the old one.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from instar import holes, syscalls
from instar.bake import elf
from instar.frozen import dataclass
from instar.store.overlay import DEEPEST

_SPAN_S = 10 * 365 * 86_400
_IN_ROOT = 0x10 | 0x02  # RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS. Source: openat2(2)
_WITHOUT_LINKS = 0x08 | 0x04  # RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # a pipe is no reason to wait
_LIMIT_BYTES = 64 << 20
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Owner = tuple[int, int]
ROOT: Owner = (0, 0)


@dataclass(frozen=True, slots=True)
class Written:
    sha256: bytes
    size_bytes: int


def derived_time(sha256: bytes, epoch: int) -> int:
    """Return the time of a file with that content. Part of the bake format."""
    return max(0, epoch - int.from_bytes(sha256[:8], "big") % _SPAN_S)


def open_without_links(root: int, path: bytes, flags: int) -> int:
    """Open ``path``, relative to and beneath the directory ``root``. Raises OSError, ELOOP where a part is a link."""
    return _openat2(root, path, flags, _WITHOUT_LINKS)


def read_regular(descriptor: int, limit_bytes: int) -> bytes:
    """Return what is in a regular file, at most ``limit_bytes`` of it. Raises OSError, EINVAL for what is none."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise OSError(errno.EINVAL, "not a regular file")
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(limit_bytes)


class Root:
    """The root at ``path``. Paths in it are absolute or relative to it, which is the same. Close it."""

    def __init__(self, path: Path, *, epoch: int) -> None:
        """``epoch`` (Unix seconds) is the time of links and the latest that a file gets."""
        self._root = os.open(path, _DIRECTORY)
        self._epoch = epoch
        self._last: tuple[str, int] | None = None
        self.programs: dict[str, bytes] = {}  # ELF files that were put, with their first bytes

    def close(self) -> None:
        if self._last:
            os.close(self._last[1])
            self._last = None
        os.close(self._root)

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def make_directory(self, path: str, owner: Owner = ROOT, mode: int = 0o755) -> None:
        """Make a directory, and those above it (root's, 755) where they are missing. One that is there stays as it is.

        Raises OSError.
        """
        if path.count("/") > DEEPEST:
            raise OSError(errno.ENAMETOOLONG, f"it is nested more than {DEEPEST} deep", f"{path[:80]}…")
        try:
            os.close(self._open(path, _DIRECTORY))
            return
        except FileNotFoundError:
            above, _, name = path.rstrip("/").rpartition("/")
        self.make_directory(above)
        parent = self._parent(above)
        os.mkdir(name, dir_fd=parent)
        self._dress(parent, name, owner, mode)

    def put(self, path: str, content: Iterable[bytes], *, owner: Owner, mode: int, time: int | None = None) -> Written:
        """Write a file, in the place of a file or link that is there. Its directory exists. Raises OSError.

        Its ``time`` (Unix seconds) is derived from its content unless it is given.
        """
        parent, name = self._make_room(path)
        descriptor = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            written, start = _write(descriptor, content)
            if start.startswith(elf.MARK):
                self.programs[path] = start
            os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            time = derived_time(written.sha256, self._epoch) if time is None else time
            os.utime(descriptor, (time, time))
        finally:
            os.close(descriptor)
        return written

    def add_to(self, path: str, *, bits: int, attributes: Mapping[str, bytes]) -> None:
        """Give a file or folder extended attributes, and bits besides its permissions. Raises OSError."""
        descriptor = self._open(path, _READ | os.O_NOFOLLOW)
        try:
            status = os.fstat(descriptor)
            for name, value in attributes.items():
                os.setxattr(descriptor, name, value)
            os.fchmod(descriptor, stat.S_IMODE(status.st_mode) | bits)
        finally:
            os.close(descriptor)

    def put_link(self, path: str, target: str, *, owner: Owner) -> None:
        """Make a symbolic link, in the place of a file or link that is there. Its directory exists. Raises OSError."""
        parent, name = self._make_room(path)
        os.symlink(target, name, dir_fd=parent)
        os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        os.utime(name, (self._epoch, self._epoch), dir_fd=parent, follow_symlinks=False)

    def put_same(self, path: str, existing: str) -> None:
        """Make ``path`` another name of the file ``existing``. Its directory exists. Raises OSError."""
        parent, name = self._make_room(path)
        file = self._open(existing, os.O_PATH | os.O_CLOEXEC)
        try:
            os.link(f"/proc/self/fd/{file}", name, dst_dir_fd=parent, follow_symlinks=True)
        finally:
            os.close(file)

    def find(self, path: str) -> bytes | None:
        """Return what is in a regular file, None when there is none. Raises OSError, also for one of 64 MiB."""
        try:
            descriptor = self._open(path, _READ)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            content = read_regular(descriptor, _LIMIT_BYTES)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from error
        finally:
            os.close(descriptor)
        if len(content) == _LIMIT_BYTES:
            raise OSError(errno.EFBIG, "too large to be read", path)
        return content

    def find_own(self, path: bytes, limit_bytes: int) -> bytes | None:
        """Return what is in a file, at most ``limit_bytes``; None for what is a link, no regular file, or not there.

        Folders above it may be links, which lead to somewhere in this root.
        """
        try:
            descriptor = self._open(os.fsdecode(path), _READ | os.O_NOFOLLOW)
        except OSError:
            return None
        try:
            return read_regular(descriptor, limit_bytes)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def names(self, path: str) -> list[str]:
        """Return what is in a folder, in order; nothing when there is none. Raises OSError."""
        try:
            descriptor = self._open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return sorted(os.listdir(descriptor))  # noqa: PTH208 - a descriptor
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def at(self, path: str) -> Iterator[Path]:
        """Yield a path of this machine to what is at ``path``, whatever links lead to it. Raises OSError."""
        descriptor = self._open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def folder(self, path: str) -> Iterator[Path]:
        """Yield a path of this machine to a folder in the root, whatever links lead to it. Raises OSError."""
        descriptor = self._open(path, _DIRECTORY)
        try:
            yield Path(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)

    def exists(self, path: str) -> bool:
        """Tell whether ``path`` leads to something, in the end."""
        try:
            os.close(self._open(path, os.O_PATH | os.O_CLOEXEC))
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def _make_room(self, path: str) -> tuple[int, str]:
        above, _, name = path.rpartition("/")
        parent = self._parent(above)
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return parent, name
        if stat.S_ISDIR(status.st_mode):
            raise IsADirectoryError(errno.EISDIR, "a directory is there", path)
        os.unlink(name, dir_fd=parent)
        return parent, name

    def _parent(self, path: str) -> int:
        """Return a descriptor of the directory, valid until the next call: files come a directory at a time."""
        if self._last and self._last[0] == path:
            return self._last[1]
        descriptor = self._open(path, _DIRECTORY)
        if self._last:
            os.close(self._last[1])
        self._last = (path, descriptor)
        return descriptor

    def _open(self, path: str, flags: int) -> int:
        return _openat2(self._root, os.fsencode(path.strip("/") or "."), flags, _IN_ROOT)

    def _dress(self, parent: int, name: str, owner: Owner, mode: int) -> None:
        descriptor = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)


def _openat2(root: int, path: bytes, flags: int, resolve: int) -> int:
    try:
        return syscalls.open_below(root, path, flags, resolve)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fsdecode(path)) from None


def _write(descriptor: int, content: Iterable[bytes]) -> tuple[Written, bytes]:
    """Write a file; return what was written, and its first bytes."""
    seen, start = hashlib.sha256(), bytearray()

    def hashed() -> Iterator[bytes]:
        for chunk in content:
            seen.update(chunk)
            if len(start) < elf.START_BYTES:
                start.extend(chunk[: elf.START_BYTES])
            yield chunk

    size_bytes = holes.write(descriptor, hashed())
    return Written(seen.digest(), size_bytes), bytes(start)
