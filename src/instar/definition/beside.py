"""Reading a file that a definition names, as root, from a folder that somebody else may write to."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath

_STEP = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def read_beside(folder: Path, name: str, limit_bytes: int) -> bytes:
    """Return what the regular file ``name`` (relative, without ``..``) below ``folder`` holds.

    No link is followed, so that nothing outside the folder can be read, whatever is swapped meanwhile. Raises OSError:
    ELOOP for a link, EINVAL for what is no regular file, EFBIG for more than ``limit_bytes``.
    """
    *folders, last = PurePosixPath(name).parts
    at = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for part in folders:
            below = _open(part, name, at, os.O_DIRECTORY)
            os.close(at)
            at = below
        return _read(_open(last, name, at, 0), name, limit_bytes)
    finally:
        os.close(at)


def _open(part: str, name: str, at: int, kind: int) -> int:
    try:
        return os.open(part, _STEP | kind, dir_fd=at)
    except OSError as error:
        link = error.errno in (errno.ELOOP, errno.ENOTDIR) and stat.S_ISLNK(os.lstat(part, dir_fd=at).st_mode)
        if link:
            raise OSError(errno.ELOOP, "it is a link, or leads through one", name) from error
        raise


def _read(descriptor: int, name: str, limit_bytes: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", name)
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {limit_bytes:,} bytes", name)
    return data
