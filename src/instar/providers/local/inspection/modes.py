"""Who owns what shows inside an instance besides its image, and who may do what with it: written down when it is made,
as ids of this machine, and compared with how it is now."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from typing import Final

from instar.providers.local.names import SECRETS

_OF_MACHINE: Final = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
_WRITABLE: Final = ("/tmp", "/run", "/dev/shm", "/dev/mqueue")  # noqa: S108 - inside
_DEVICES: Final = "/dev"
_KINDS: Final = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link", stat.S_IFIFO: "pipe"}


def modes(pid: int) -> Mapping[str, str]:
    """Return path → kind, mode and owner of each. Raises OSError."""
    root = f"/proc/{pid}/root"
    found = {}
    for path in (*_OF_MACHINE, *_WRITABLE, *_below(root, _DEVICES), *_below(root, SECRETS)):
        try:
            found[path] = _shown(root, path)
        except FileNotFoundError:
            continue
    return found


def _below(root: str, folder: str) -> Sequence[str]:
    """Return the folder and what is in it, but for sockets: a service may listen there."""
    try:
        with os.scandir(root + folder) as entries:
            names = [entry.name for entry in entries if not stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)]
    except FileNotFoundError:
        return ()
    return (folder, *(f"{folder}/{name}" for name in sorted(names) if f"{folder}/{name}" not in _WRITABLE))


def _shown(root: str, path: str) -> str:
    found = os.lstat(root + path)
    kind = stat.S_IFMT(found.st_mode)
    if kind in (stat.S_IFCHR, stat.S_IFBLK):
        what = f"device {os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
    elif kind == stat.S_IFLNK:
        return f"link to {os.readlink(root + path)}"  # noqa: PTH115 - as it is written, whatever is there
    else:
        what = _KINDS.get(kind, "something else")
    return f"{what} {stat.S_IMODE(found.st_mode):04o} of {found.st_uid}:{found.st_gid}"
