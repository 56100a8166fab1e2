"""Who, besides root, a message about an author's file is for, and whether they could read that file themselves."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path


def askers(folder: Path) -> frozenset[int]:
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
