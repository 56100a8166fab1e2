"""Files that are there whole or not at all, and stay once they are there: a loss of power takes none of them back.

What is written goes into a file of another name in the same folder (``.NAME.RANDOM``), down to the disk, and only then
gets its name, which goes down to the disk too. Whoever may write to the folder can put links anywhere in it while root
writes: the names in it are never followed, and no file that somebody else has made is written to. A writer that is
killed leaves at most the file of another name (:func:`leftovers`). Two writers of one name: the last one's is there.

What is read of the state is a regular file, whoever has put what in its place: nothing waits for the writer of a pipe,
and no more is read than a file of the state can have.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Final

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
LIMIT_BYTES: Final = 64 << 20  # of what is read whole
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}")


def is_missing(path: Path) -> bool:
    """Tell whether there is nothing at ``path``. What nobody here may look at may be there."""
    try:
        path.lstat()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # whoever reads it says why not
    return False


def reader(path: Path) -> BufferedReader:
    """Open a regular file to read it, without waiting. Raises OSError: EINVAL for anything else."""
    descriptor = os.open(path, _READ)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read(path: Path, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Return what a regular file holds. Raises OSError: EINVAL for anything else, EFBIG for more than the limit."""
    with reader(path) as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {limit_bytes:,} bytes", str(path))
    return data


def read_text(path: Path, errors: str = "strict") -> str:
    """Do as :func:`read`, and decode it, with one kind of line ends. Raises ValueError for what is no UTF-8."""
    return read(path).decode(errors=errors).replace("\r\n", "\n").replace("\r", "\n")


def write(path: Path, data: bytes, *, mode: int = 0o600, as_folder: bool = False, lasting: bool = True) -> None:
    """Make ``data`` what is in ``path``, with ``mode`` whatever the umask. Raises OSError.

    ``as_folder``: it belongs to whom the folder belongs to. Not ``lasting``: what is of this boot alone need not
    outlive it, and no disk is waited for.
    """
    with _opened(path.parent) as folder, _written(path.name, folder, data, mode, as_folder, lasting) as temporary:
        os.rename(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder)
        if lasting:
            os.fsync(folder)


def write_once(path: Path, data: bytes, *, mode: int = 0o600) -> bool:
    """Make a file that is never written again; return False where there is one, which stays. Raises OSError."""
    with _opened(path.parent) as folder, _written(path.name, folder, data, mode, False, True) as temporary:
        try:
            os.link(temporary, path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            return False
        os.fsync(folder)
    return True


def move(made: Path, path: Path) -> None:
    """Give a file that was made elsewhere on the same file system its name, in place of what has it. Raises OSError."""
    descriptor = os.open(made, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    made.rename(path)
    sync(path.parent)


def sync(folder: Path) -> None:
    """Make the names in ``folder`` stay, or those of its file system's that it was given just now. Raises OSError."""
    with _opened(folder) as descriptor:
        os.fsync(descriptor)


def leftovers(folder: Path) -> Iterator[Path]:
    """Yield what writers have not given its name: they are at it just now, or were killed."""
    with contextlib.suppress(FileNotFoundError):
        yield from (path for path in folder.iterdir() if _TEMPORARY.fullmatch(path.name))


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, _FOLDER)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _written(name: str, folder: int, data: bytes, mode: int, as_folder: bool, lasting: bool) -> Iterator[str]:
    """Yield the name of a new file in ``folder`` that holds ``data``; one that keeps it is removed afterwards."""
    temporary = f".{name}.{os.urandom(8).hex()}"
    try:
        with os.fdopen(os.open(temporary, _NEW, 0o600, dir_fd=folder), "wb", buffering=0) as file:
            _write_all(file.write, data)
            os.fchmod(file.fileno(), mode)
            if as_folder:
                owner = os.fstat(folder)
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
            if lasting:
                os.fsync(file.fileno())
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)


def _write_all(write: Callable[[memoryview], int | None], data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[write(rest) or 0 :]
