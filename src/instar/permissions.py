"""Who else has to do with a file: who a message about it is for, whether they may read it, and who may write to it."""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections import deque
from collections.abc import Collection
from pathlib import Path
from typing import Final

_MOST_LINKS: Final = 40  # as the kernel follows


def asking_users(folder: Path) -> frozenset[int]:
    """Return the users that root reads a file in ``folder`` for: whoever called sudo, and who has the folder."""
    if os.geteuid() != 0:
        return frozenset()
    caller = os.environ.get("SUDO_UID", "")
    called = {int(caller)} if caller.isascii() and caller.isdigit() and len(caller) <= 10 else set()
    return frozenset(called | {folder.stat().st_uid}) - {0}


def may_read(user: int, status: os.stat_result, folder: Path) -> bool:
    """Tell whether ``user`` may read a file with that status, and get to the folder that it is in.

    By owner, group and mode; what a list of access rights adds to them is not known here.
    """
    groups = _groups(user)
    real = folder.resolve()
    on_the_way = all(_allows(user, groups, above.stat(), stat.S_IXOTH) for above in (real, *real.parents))
    return on_the_way and _allows(user, groups, status, stat.S_IROTH)


def other_writer(status: os.stat_result, trusted: Collection[int] = (0,)) -> str | None:
    """Say who, besides root and the users of ``trusted``, may write to what has that status; None where nobody may.

    In a folder with the sticky bit nobody may replace another's file.
    """
    if status.st_uid != 0 and status.st_uid not in trusted:
        return _user_name(status.st_uid)
    if stat.S_ISLNK(status.st_mode) or (stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX):
        return None
    if status.st_mode & stat.S_IWOTH:
        return "everybody"
    return f"group {status.st_gid}" if status.st_mode & stat.S_IWGRP and status.st_gid != 0 else None


def find_other_on_the_way(folder: Path) -> tuple[str, Path] | None:
    """Say who, besides root, could have another folder stand at ``folder``, and what they may write to on the way
    there, which leads through the targets of links; None where nobody can. Raises OSError."""
    rest, now = deque(folder.absolute().parts[1:]), Path("/")
    links = 0
    while True:
        status = now.lstat()
        if (who := other_writer(status)) is not None:
            return who, now
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            rest.extendleft(reversed(now.readlink().parts))
            now = now.parent
        if not rest:
            return None
        part = rest.popleft()
        now = now.parent if part == ".." else now / part


def other_adder(status: os.stat_result) -> str | None:
    """Say who, besides root, may write to a file or put one into a folder, whatever its sticky bit keeps them from."""
    return other_writer(os.stat_result((status.st_mode & ~stat.S_ISVTX, *status[1:])))


def _user_name(user: int) -> str:
    try:
        return f"user '{pwd.getpwuid(user).pw_name}'"
    except KeyError:
        return f"user {user}"


def _allows(user: int, groups: frozenset[int], status: os.stat_result, right: int) -> bool:
    if status.st_uid == user:
        return bool(status.st_mode & right << 6)
    return bool(status.st_mode & (right << 3 if status.st_gid in groups else right))


def _groups(user: int) -> frozenset[int]:
    try:
        known = pwd.getpwuid(user)
    except KeyError:
        return frozenset()
    return frozenset(os.getgrouplist(known.pw_name, known.pw_gid))
