"""A folder that others fill, copied with all that it holds: owners, modes, times, attributes, links, holes.

Each file shares its blocks with its copy where the file system can. However deep folders are nested, it goes by one at
a time, and no process that has a lease on a file is waited for without end. Nobody else may write to what is made. What
is on another file system is left out, but its folder.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from instar import holes
from instar.descent import FILE, FOLDER, Descent
from instar.errors import HostError
from instar.model.printable import printable

_TIMEOUT_S: Final = 6 * 3_600.0
_LEASES_S: Final = 60.0  # for those who hold leases on files, all together: the kernel ends one after 45 seconds
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FICLONE: Final = 0x4004_9409  # Source: ioctl_ficlonerange(2)
_REPLACED: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)  # gone, or a file, a link, a socket now
_NOT_KEPT: Final = (errno.ENOTSUP, errno.EPERM, errno.EINVAL)  # where the file system has no such attributes
_CHUNK_BYTES: Final = 1 << 30
_SHOWN: Final = 100


class NotCopied(OSError):
    """``filename`` is what could not be, below the folder; a long one is cut."""


def failed(source: Path, error: OSError, full: str | None = None) -> HostError:
    """Return the error of a copy of ``source`` that failed; ``full`` is the hint where there was no room for it."""
    what = f": '{error.filename}'" if isinstance(error, NotCopied) else ""
    hint = full if error.errno in (errno.ENOSPC, errno.EDQUOT) else None
    if error.errno == errno.EAGAIN:
        hint = "stop what has it open, or ask again"
    return HostError(f"cannot copy '{source}'{what}: {(error.strerror or str(error)).lower()}", hint=hint)


class _Gone(Exception):
    """Another thing is there by now, or none."""


class Copying:
    """Copies the open folder ``source`` to ``made``, which is made where it isn't there yet. ``may_change``: what is
    gone, moved or replaced while it is copied is no fault."""

    def __init__(self, source: int, made: Path, *, may_change: bool) -> None:
        self._source = source
        self._made = made
        self._may_change = may_change
        self._found = os.fstat(source)
        self._until = time.monotonic() + _TIMEOUT_S
        self._leases_s = _LEASES_S
        self._linked = -1  # a folder with another name of each file that has several, as long as some are to come
        self._to_come: dict[int, int] = {}

    def run(self) -> None:
        """Raises NotCopied, OSError; what is made by then is left."""
        self._made.mkdir(mode=0o700, exist_ok=True)
        top = os.open(self._made, FOLDER)
        linked = b".links." + os.urandom(12).hex().encode()
        try:
            os.mkdir(linked, 0o700, dir_fd=top)
            self._linked = os.open(linked, FOLDER, dir_fd=top)
            try:
                self._below(top)
                for one in [one.name for one in os.scandir(self._linked)]:
                    os.unlink(one, dir_fd=self._linked)
            finally:
                os.close(self._linked)
            os.rmdir(linked, dir_fd=top)
            _dress(top, self._found, _attributes(self._source))
        finally:
            os.close(top)

    def _below(self, top: int) -> None:
        way, to, entered = Descent(self._source), os.dup(top), list[os.stat_result]()
        try:
            while (one := way.next()) is not None or way.depth:
                if one is None:
                    to = self._leave(way, to, entered)
                    continue
                try:
                    found = self._one(way, one, to)
                    if found is not None:
                        to = _moved(to, one)
                        entered.append(found)
                except _Gone as gone:
                    if not self._may_change:
                        raise _not_copied(way.name + one, OSError(errno.ENOENT, "it changes")) from gone
                except NotCopied:
                    raise
                except OSError as error:
                    raise _not_copied(way.name + one, error) from error
        finally:
            os.close(to)
            way.close()

    def _leave(self, way: Descent, to: int, entered: list[os.stat_result]) -> int:
        """Go up in both; return the folder above in what is made."""
        name, attributes = way.name, _attributes(way.here)
        levels = way.leave()
        if levels > 1 and not self._may_change:
            raise _not_copied(name, OSError(errno.ENOENT, "it was moved"))
        for _ in range(levels):
            _dress(to, entered.pop(), attributes)
            attributes = {}
            to = _moved(to, b"..")
        return to

    def _one(self, way: Descent, one: bytes, to: int) -> os.stat_result | None:
        """Copy what is called ``one``. A folder that was entered is made, and what it is is returned."""
        if time.monotonic() > self._until:
            raise OSError(errno.ETIMEDOUT, f"no end after {_TIMEOUT_S / 3_600:g} hours")
        with _unless_gone():
            found = os.stat(one, dir_fd=way.here, follow_symlinks=False)
        if not stat.S_ISDIR(found.st_mode):
            self._no_folder(way.here, one, found, to)
            return None
        inside = found.st_dev == self._found.st_dev
        if inside:
            with _unless_gone():
                way.enter(one)
        os.mkdir(one, 0o700, dir_fd=to)
        if inside:
            return found
        made = os.open(one, FOLDER, dir_fd=to)
        try:
            _dress(made, found, {})
        finally:
            os.close(made)
        return None

    def _no_folder(self, here: int, one: bytes, found: os.stat_result, to: int) -> None:
        if stat.S_ISREG(found.st_mode):
            descriptor = self._opened(here, one)
            try:
                now = os.fstat(descriptor)
                if not stat.S_ISREG(now.st_mode):
                    raise _Gone
                self._file(descriptor, one, now, to)
            finally:
                os.close(descriptor)
            return
        if stat.S_ISLNK(found.st_mode):
            with _unless_gone(errno.EINVAL):
                target = os.readlink(one, dir_fd=here)
            os.symlink(target, one, dir_fd=to)
        else:
            os.mknod(one, stat.S_IFMT(found.st_mode) | 0o600, found.st_rdev, dir_fd=to)
        _dress_by_name(here, to, one, found)

    def _opened(self, here: int, one: bytes) -> int:
        while True:
            try:
                with _unless_gone():
                    return os.open(one, FILE, dir_fd=here)
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
                if self._leases_s <= 0:
                    raise OSError(errno.EAGAIN, "a process holds a lease on it") from error
            time.sleep(0.1)
            self._leases_s -= 0.1

    def _file(self, descriptor: int, one: bytes, found: os.stat_result, to: int) -> None:
        if found.st_nlink > 1 and found.st_ino in self._to_come:
            self._link(one, found.st_ino, to)
            return
        made = os.open(one, _CREATE, 0o600, dir_fd=to)
        try:
            _fill(descriptor, made, found.st_size)
            _dress(made, found, _attributes(descriptor))
        finally:
            os.close(made)
        if found.st_nlink > 1:
            os.link(one, _kept(found.st_ino), src_dir_fd=to, dst_dir_fd=self._linked, follow_symlinks=False)
            self._to_come[found.st_ino] = found.st_nlink - 1

    def _link(self, one: bytes, number: int, to: int) -> None:
        """Make a further name of a file; the last one is the name that was kept for these."""
        self._to_come[number] -= 1
        if self._to_come[number]:
            os.link(_kept(number), one, src_dir_fd=self._linked, dst_dir_fd=to, follow_symlinks=False)
        else:
            del self._to_come[number]
            os.rename(_kept(number), one, src_dir_fd=self._linked, dst_dir_fd=to)


@contextlib.contextmanager
def _unless_gone(*further: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (*_REPLACED, *further):
            raise _Gone from error
        raise


def _kept(number: int) -> bytes:
    return b"%d" % number


def _moved(folder: int, name: bytes) -> int:
    """Return the folder ``name`` of an open one in its place. Nobody else writes to what is made."""
    found = os.open(name, FOLDER, dir_fd=folder)
    os.close(folder)
    return found


def _fill(source: int, made: int, size: int) -> None:
    """Write the content of a file, ``size`` bytes: what it is shorter by meanwhile are zeros."""
    if not size:
        return
    try:
        fcntl.ioctl(made, _FICLONE, source)
    except OSError:
        for offset, length in holes.pieces(source, size):
            _send(source, made, offset, length)
    os.ftruncate(made, size)


def _send(source: int, made: int, offset: int, length: int) -> None:
    os.lseek(made, offset, os.SEEK_SET)
    while length:
        sent = os.sendfile(made, source, offset, min(length, _CHUNK_BYTES))
        if not sent:
            return
        offset, length = offset + sent, length - sent


def _attributes(descriptor: int | str, *, follow_symlinks: bool = True) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    with contextlib.suppress(OSError):  # a file system that has none
        for name in os.listxattr(descriptor, follow_symlinks=follow_symlinks):
            with contextlib.suppress(OSError):
                found[name] = os.getxattr(descriptor, name, follow_symlinks=follow_symlinks)
    return found


def _set(made: int | str, attributes: dict[str, bytes], *, follow_symlinks: bool = True) -> None:
    for name, value in attributes.items():
        try:
            os.setxattr(made, name, value, follow_symlinks=follow_symlinks)
        except OSError as error:
            if error.errno not in _NOT_KEPT:
                raise


def _dress(made: int, found: os.stat_result, attributes: dict[str, bytes]) -> None:
    os.fchown(made, found.st_uid, found.st_gid)  # first: it takes set-user-ID and capabilities away
    os.fchmod(made, stat.S_IMODE(found.st_mode))
    _set(made, attributes)
    os.utime(made, ns=(found.st_atime_ns, found.st_mtime_ns))


def _dress_by_name(here: int, to: int, one: bytes, found: os.stat_result) -> None:
    os.chown(one, found.st_uid, found.st_gid, dir_fd=to, follow_symlinks=False)
    if not stat.S_ISLNK(found.st_mode):
        os.chmod(one, stat.S_IMODE(found.st_mode), dir_fd=to)
    source, made = (f"/proc/self/fd/{folder}/{os.fsdecode(one)}" for folder in (here, to))
    _set(made, _attributes(source, follow_symlinks=False), follow_symlinks=False)
    os.utime(one, ns=(found.st_atime_ns, found.st_mtime_ns), dir_fd=to, follow_symlinks=False)


def _not_copied(name: bytes, error: OSError) -> NotCopied:
    shown = name.decode("utf-8", "backslashreplace")
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    return NotCopied(error.errno, (error.strerror or str(error)).lower(), printable(shown))
