"""What the operating system refuses, said as a StoreError: which file system is full, and how much is free."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from instar.errors import StoreError
from instar.model.sizes import size_text
from instar.store.room import mount_of

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def reported(action: str, path: Path) -> Iterator[None]:
    """Turn an OSError inside into StoreError "cannot ‹action›: …". ``path`` is where was being written."""
    try:
        yield
    except OSError as error:
        raise refusal(action, error, path) from error


def refusal(action: str, error: OSError, path: Path) -> StoreError:
    """Return the StoreError for what the operating system refused."""
    if error.errno in _FULL:
        return StoreError(
            f"cannot {action}: {_fullness(path)}",
            hint="free space there; instar gc --all removes what no kept release needs",
        )
    if error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0:
        return StoreError(f"cannot {action}: {error.strerror}", hint="run it as root")
    return StoreError(f"cannot {action}: {error.strerror or error}")


def _fullness(path: Path) -> str:
    mount = mount_of(path)
    status = os.statvfs(mount)
    if status.f_favail == 0 and status.f_files:
        return f"the file system at '{mount}' has no inodes left"
    return f"the file system at '{mount}' is full, {size_text(status.f_bavail * status.f_frsize)} free"
