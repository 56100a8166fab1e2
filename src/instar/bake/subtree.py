"""A part of a tree → a tree of its own, with owners, modes, times, attributes and hard links as they were."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from instar.store.overlay import is_carried


def copy_part(root: Path, paths: Iterable[str], into: Path) -> int:
    """Copy ``paths`` of ``root``, each after the folder that it is in, to ``into``; return the bytes of their files.

    Raises OSError. Nothing else writes to either meanwhile.
    """
    size_bytes, first, folders = 0, dict[tuple[int, int], str](), list[tuple[str, os.stat_result]]()
    for path in sorted(paths):
        source, target = f"{root}/{path}", f"{into}/{path}"
        status = os.lstat(source)
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(target, 0o700)  # noqa: PTH102 - text
            folders.append((path, status))
            continue
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211 - text
        elif stat.S_ISREG(status.st_mode):
            known = first.setdefault((status.st_dev, status.st_ino), path) if status.st_nlink > 1 else path
            if known != path:
                os.link(f"{into}/{known}", target)
                continue
            shutil.copyfile(source, target)
            size_bytes += status.st_size
        else:
            continue  # what no layer holds
        _dress(source, target, status)
    for path, status in reversed(folders):
        _dress(f"{root}/{path}", f"{into}/{path}", status)
    return size_bytes


def _dress(source: str, target: str, status: os.stat_result) -> None:
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(status.st_mode):
        for name in os.listxattr(source):
            if is_carried(name):
                os.setxattr(target, name, os.getxattr(source, name))
        os.chmod(target, stat.S_IMODE(status.st_mode))  # noqa: PTH101 - text
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns), follow_symlinks=False)
