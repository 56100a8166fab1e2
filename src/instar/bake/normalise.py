"""What a step leaves → what its layer holds: nothing of the moment, the machine or the sandbox.

Part of the bake format. Taken away from the upper directory, so that what lies beneath shows again: files of the
sandbox's world, backups and locks, lists and logs of the package tools, bytecode that is valid by time stamp (times
are changed below); of installed packages also the keys, the databases and the logs that their scripts made, which are
new on every machine. Then times become whole seconds, at most the epoch. Devices, pipes and sockets are refused.
"""

from __future__ import annotations

import contextlib
import enum
import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from instar.bake.debian.stripped import Stripped
from instar.errors import BakeError
from instar.store.overlay import DEEPEST

# Regular expressions of whole paths. What ends in "/.*" is what is in a directory, not the directory.
_OF_THE_WORLD = (
    r"(dev|proc|sys|run|tmp|var/tmp)/.*",
    r"etc/(hosts|hostname|resolv\.conf|machine-id|\.pwd\.lock)",
    r"etc/(passwd|group|shadow|gshadow|subuid|subgid)-",
    r"var/lib/dbus/machine-id",
    r"var/lib/apt/(lists|periodic)/.*",
    r"var/lib/dpkg/([^/]+-old|lock|lock-frontend|triggers/Lock)",
    r"var/cache/(apt/.*|debconf/[^/]+-old|ldconfig/aux-cache|man/.*)",
    r"var/log/(alternatives\.log|bootstrap\.log|dpkg\.log|apt/.*)",
)
_OF_AN_INSTALLATION = (
    r"etc/ssh/ssh_host_.*",
    r"etc/ssl/(private/ssl-cert-snakeoil\.key|certs/ssl-cert-snakeoil\.pem)",
    r"var/lib/(mysql|postgresql/[^/]+/[^/]+)/.*",
    r"var/lib/(systemd|urandom)/random-seed",
)
_LOGS = r"var/log/.*"  # files only: a directory may belong to who will write there

_WORLD = re.compile("|".join(f"({pattern})" for pattern in _OF_THE_WORLD).encode())
_INSTALLATION = re.compile("|".join(f"({pattern})" for pattern in _OF_AN_INSTALLATION).encode())
_LOG = re.compile(_LOGS.encode())
_LONGEST_NAME_BYTES = 254  # mkfs.erofs makes no file of a name of 255, the longest that Linux has
_KINDS = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_OPAQUE = "trusted.overlay.opaque"
_CAPABILITIES = "security.capability"
_PYC_HASHED = 1


class Strip(enum.Enum):
    """How much goes."""

    NOTHING = enum.auto()  # a step that wrote only what it was told to write
    WORLD = enum.auto()  # what came from the sandbox's world
    RIGHTS = enum.auto()  # and the rights that packages of others give their files, which nobody asked for
    INSTALLATION = enum.auto()  # and what installed packages made for themselves


def normalise(upper: Path, *, epoch: int, strip: Strip, asked: Collection[str] = ()) -> None:
    """Normalise ``upper``, which is not mounted. ``asked``: what the definition has stripped besides.

    Raises BakeError, naming the path, for what no image may hold.
    """
    root, stripped = os.fsencode(upper), Stripped(asked)
    for path, inside, status in _walk(root, b""):
        known = strip != Strip.NOTHING and _goes(path, inside, status, installed=strip == Strip.INSTALLATION)
        if known or stripped.takes(path, inside, status):
            _remove(path, status)
        else:
            if strip == Strip.RIGHTS and stat.S_ISREG(status.st_mode):
                _take_rights(path, status)
            _settle(path, inside, status, epoch)
    _settle_root(upper, epoch)


def _settle_root(upper: Path, epoch: int) -> None:
    """Have the topmost directory as every layer has it: no layer says anything of it. (The kernel gives the one that it
    writes to a number of its own, by chance, as an attribute.)"""
    for name in os.listxattr(upper):
        with contextlib.suppress(OSError):
            os.removexattr(upper, name)
    upper.chmod(0o755)
    os.chown(upper, 0, 0)
    os.utime(upper, (epoch, epoch))


def _walk(path: bytes, inside: bytes, depth: int = 0) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
    """Yield (path, path inside, status), what is in a directory before the directory, which is looked at after that."""
    if depth > DEEPEST:
        shown = inside.decode("utf-8", "backslashreplace")
        raise BakeError(f"cannot store '/{shown[:80]}…': a folder of it is nested more than {DEEPEST} deep")
    with os.scandir(path) as entries:
        found = list(entries)
    for entry in found:
        name = inside + b"/" + entry.name if inside else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path, name, depth + 1)
        yield entry.path, name, os.lstat(entry.path)


def is_taken_away(inside: bytes) -> bool:
    """Tell whether a regular file at ``inside``, of a step that installed packages, goes for where it lies."""
    return any(pattern.fullmatch(inside) for pattern in (_WORLD, _INSTALLATION, _LOG))


def _goes(path: bytes, inside: bytes, status: os.stat_result, *, installed: bool) -> bool:
    if _WORLD.fullmatch(inside) or (installed and _INSTALLATION.fullmatch(inside)):
        return True
    if not stat.S_ISREG(status.st_mode):
        return inside.endswith(b"/__pycache__") and stat.S_ISDIR(status.st_mode) and not os.listdir(path)  # noqa: PTH208
    if inside.endswith(b".pyc"):
        return _is_by_time(path)
    return installed and bool(_LOG.fullmatch(inside))


def _is_by_time(path: bytes) -> bool:
    """Tell whether bytecode is valid by its source's time. Source: PEP 552."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - bytes
        header = file.read(8)
    return len(header) == 8 and not header[4] & _PYC_HASHED


def _remove(path: bytes, status: os.stat_result) -> None:
    if stat.S_ISDIR(status.st_mode):
        shutil.rmtree(path)
    else:
        os.unlink(path)  # noqa: PTH108 - bytes


def _take_rights(path: bytes, status: os.stat_result) -> None:
    """Let a file be run as nobody else than who runs it, and with no more than they may."""
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        os.chmod(path, stat.S_IMODE(status.st_mode) & ~(stat.S_ISUID | stat.S_ISGID))  # noqa: PTH101 - bytes
    if _CAPABILITIES in os.listxattr(path, follow_symlinks=False):
        os.removexattr(path, _CAPABILITIES, follow_symlinks=False)


def _settle(path: bytes, inside: bytes, status: os.stat_result, epoch: int) -> None:
    kind = stat.S_IFMT(status.st_mode)
    name = inside.rpartition(b"/")[2]
    if len(name) > _LONGEST_NAME_BYTES:
        shown = inside.decode("utf-8", "backslashreplace")
        raise BakeError(
            f"cannot store '/{shown[:80]}…': its name has {len(name)} bytes, and the file system of instances takes"
            f" {_LONGEST_NAME_BYTES}",
            hint="give it a shorter name, or leave it out",
        )
    if kind in _KINDS:
        if kind == stat.S_IFCHR and status.st_rdev == 0:
            return  # a whiteout
        shown = inside.decode("utf-8", "backslashreplace")
        raise BakeError(
            f"cannot store '/{shown}': {_KINDS[kind]} cannot be part of an image",
            hint="remove it in the line that makes it, or make it when the service starts",
        )
    _strip(path)
    if status.st_mtime_ns % 1_000_000_000 or status.st_mtime_ns > epoch * 1_000_000_000:
        seconds = min(status.st_mtime_ns // 1_000_000_000, epoch)
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def _strip(path: bytes) -> None:
    """Remove the overlay's own notes, which mean something only where it wrote them."""
    for name in os.listxattr(path, follow_symlinks=False):
        if name.startswith("trusted.overlay.") and name != _OPAQUE:
            with contextlib.suppress(OSError):
                os.removexattr(path, name, follow_symlinks=False)
