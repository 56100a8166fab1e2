"""Mounts of this machine: EROFS files, overlays, binds, and taking them away again.

Everything goes through mount(2) and its younger siblings (``syscalls.py``): three mounts take 7 ms, a ``mount`` program
would take as long for each. Nothing here is remembered; what is mounted is what /proc/self/mountinfo says.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from instar import syscalls
from instar.errors import HostError
from instar.host.kernel import loop_devices
from instar.waiting import Deadline

_RDONLY, _NOSUID, _NODEV, _BIND, _PRIVATE, _SHARED = 1, 2, 4, 4096, 1 << 18, 1 << 20
_DETACH, _NOFOLLOW = 2, 8
_AT_FDCWD = -100

# Numbers of the mount API of Linux 5.2, the same on every architecture. Source: asm-generic/unistd.h
_MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 429, 430, 431, 432
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6
_MOVE_EMPTY_PATH = 4
_MOUNT_RDONLY, _MOUNT_NOSUID, _MOUNT_NODEV = 1, 2, 4

_OF_UPPERS = {"redirect_dir": "off", "metacopy": "off", "index": "off", "volatile": ""}
_MOUNTS_FILES = (6, 12)  # mount(2) takes a file
_ADDS_LOWERS = (6, 8)  # overlay has "lowerdir+"
_OPTIONS_LIMIT = 4095  # mount(2) takes one page, and silently cuts what is longer
_BUSY_WAIT_S = 1.0
_STAYS_S = 20.0
_SPECIAL, _LOWER_SPECIAL = re.compile(r"([\\,])"), re.compile(r"([\\:,])")
_OCTAL = re.compile(rb"\\([0-7]{3})")


def mount_erofs(image: Path, target: Path) -> None:
    """Mount the EROFS file or block device ``image`` at ``target``, read-only, without devices and set-uid programs.

    The kernel reads a file itself from 6.12; older ones need a loop device, which is freed by the unmount.
    Raises HostError.
    """
    if not needs_loop_devices() or image.is_block_device():
        try:
            syscalls.mount(str(image), target, "erofs", _RDONLY | _NOSUID | _NODEV)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTBLK, errno.EINVAL, errno.ENODEV):
                raise _failed(target, error) from error
    _mount_erofs_loop(image, target)


def needs_loop_devices() -> bool:
    """Tell whether this kernel is too old to mount a file."""
    return _kernel() < _MOUNTS_FILES


def mount_overlay(lowers: Sequence[Path], target: Path, *, upper: Path | None = None, work: Path | None = None) -> None:
    """Mount an overlay of ``lowers``, topmost first, at ``target``; read-only unless there is ``upper`` and ``work``.

    What is written is never synced, so an upper directory is worth nothing after a crash; and it is whole without the
    overlay's own links between layers. A lower that comes again further down changes nothing there, and is left out,
    since the kernel refuses it. Paths may hold any character. Raises HostError.
    """
    lowers = tuple(dict.fromkeys(lowers))
    settings = {"upperdir": str(upper), "workdir": str(work), **_OF_UPPERS} if upper and work else {}
    flags = _NOSUID | _NODEV | (0 if settings else _RDONLY)
    if _kernel() >= _ADDS_LOWERS:
        try:
            _mount_overlay_by_steps(lowers, settings, target, flags)
            return
        except OSError:  # it says why only in its log; what follows says it to us
            pass
    try:
        _mount_overlay_at_once(lowers, settings, target, flags)
    except OSError as error:
        raise _failed(target, error) from error


def mount_tmpfs(target: Path, *, size_bytes: int) -> None:
    """Mount memory at ``target``, as much as is used and at most ``size_bytes``, for root alone. Raises HostError."""
    try:
        syscalls.mount("tmpfs", target, "tmpfs", _NOSUID | _NODEV, f"size={size_bytes},mode=700")
    except OSError as error:
        raise _failed(target, error) from error


def mount_disk(device: Path, target: Path) -> None:
    """Mount the ext4 file system on ``device`` at ``target``, writable, without devices and set-uid programs.

    Raises HostError.
    """
    try:
        syscalls.mount(str(device), target, "ext4", _NOSUID | _NODEV)
        syscalls.mount("none", target, None, _PRIVATE)
    except OSError as error:
        raise _failed(target, error) from error


def bind(source: Path, target: Path) -> None:
    """Show ``source`` at ``target`` too, without what is mounted below it now or later. Raises HostError."""
    try:
        syscalls.mount(str(source), target, None, _BIND)
        syscalls.mount(
            "none", target, None, _PRIVATE
        )  # systemd shares all mounts, and what is mounted in one shows in the other
    except OSError as error:
        raise _failed(target, error) from error


def share(target: Path) -> bool:
    """Let what is mounted in ``target`` show in all mount namespaces; tell whether it is a mount at all, which only the
    kernel knows for certain: the table may be read while it changes. Raises HostError."""
    try:
        syscalls.mount("none", target, None, _SHARED)
    except OSError as error:
        if error.errno == errno.EINVAL:
            return False
        raise _failed(target, error) from error
    return True


def unmount(target: Path) -> None:
    """Unmount what is at ``target``; nothing happens where nothing is mounted.

    What is busy is waited for; if it stays so, it is taken from view at once and goes when its last user does.
    Raises HostError.
    """
    deadline = Deadline.after(_BUSY_WAIT_S)
    while True:
        lazy = _DETACH if deadline.is_over else 0
        try:
            syscalls.unmount(target, _NOFOLLOW | lazy)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                return
            if error.errno != errno.EBUSY or lazy:
                raise HostError(f"cannot unmount '{target}': {error.strerror}") from error
            time.sleep(0.01)
        else:
            return


def mounts_below(path: Path) -> tuple[Path, ...]:
    """Return the mount points at and below ``path``, the last mounted first: the order in which they can go."""
    root = str(path)
    with open("/proc/self/mountinfo", "rb") as file:  # noqa: PTH123 - bytes: a mount point need not be UTF-8
        fields = [line.split(b" ", 5)[4] for line in file]
    points = [os.fsdecode(_unescape(field)) for field in fields]
    return tuple(Path(point) for point in reversed(points) if point == root or point.startswith(root.rstrip("/") + "/"))


def unmount_all(path: Path) -> None:
    """Unmount everything at and below ``path``, stacked mounts too. Raises HostError, also where one stays whatever
    the kernel says."""
    deadline = Deadline.after(_STAYS_S)
    while points := mounts_below(path):
        if deadline.is_over:
            raise HostError(f"cannot unmount '{points[0]}': it stays mounted")
        for point in points:
            unmount(point)


def _mount_erofs_loop(image: Path, target: Path) -> None:
    with loop_devices.attached(image) as device:
        try:
            syscalls.mount(str(device), target, "erofs", _RDONLY | _NOSUID | _NODEV)
        except OSError as error:
            raise HostError(
                f"cannot mount '{target}': {error.strerror}",
                hint="this kernel needs EROFS: modprobe erofs, and see instar doctor",
            ) from error


def _mount_overlay_by_steps(lowers: Sequence[Path], settings: Mapping[str, str], target: Path, flags: int) -> None:
    context = syscalls.invoke(_FSOPEN, b"overlay", 1)
    try:
        syscalls.invoke(_FSCONFIG, context, _SET_STRING, b"source", b"overlay", 0)
        for lower in lowers:
            syscalls.invoke(_FSCONFIG, context, _SET_STRING, b"lowerdir+", os.fsencode(lower), 0)
        for name, value in settings.items():
            syscalls.invoke(
                _FSCONFIG, context, _SET_STRING if value else _SET_FLAG, name.encode(), os.fsencode(value) or None, 0
            )
        syscalls.invoke(_FSCONFIG, context, _CREATE, None, None, 0)
        attributes = _MOUNT_NOSUID | _MOUNT_NODEV | (_MOUNT_RDONLY if flags & _RDONLY else 0)
        mount = syscalls.invoke(_FSMOUNT, context, 1, attributes)
    finally:
        os.close(context)
    try:
        syscalls.invoke(_MOVE_MOUNT, mount, b"", _AT_FDCWD, os.fsencode(target), _MOVE_EMPTY_PATH)
    finally:
        os.close(mount)


def _mount_overlay_at_once(lowers: Sequence[Path], settings: Mapping[str, str], target: Path, flags: int) -> None:
    options = _overlay_options(lowers, settings)
    with contextlib.ExitStack() as stack:
        if len(os.fsencode(options)) > _OPTIONS_LIMIT:
            options = _overlay_options([_shortened(lower, stack) for lower in lowers], settings)
        if len(os.fsencode(options)) > _OPTIONS_LIMIT:
            raise OSError(errno.E2BIG, f"{len(lowers)} layers are more than this kernel can overlay (from 6.8 it can)")
        syscalls.mount("overlay", target, "overlay", flags, options)


def _shortened(path: Path, stack: contextlib.ExitStack) -> Path:
    """Return a short name for ``path``, which this process alone can use, as long as ``stack`` is open."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    stack.callback(os.close, descriptor)
    return Path(f"/proc/self/fd/{descriptor}")


def _overlay_options(lowers: Sequence[Path], settings: Mapping[str, str]) -> str:
    options = "lowerdir=" + ":".join(_LOWER_SPECIAL.sub(r"\\\1", str(lower)) for lower in lowers)
    for name, value in settings.items():
        options += f",{name}=" + _SPECIAL.sub(r"\\\1", value) if value else f",{name}"
    return options


@functools.cache
def _kernel() -> tuple[int, int]:
    """Return the kernel's version. What it can do is tried only where it may: a failure is an error in its log."""
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


def _unescape(field: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), field)


def _failed(target: Path, error: OSError) -> HostError:
    hint = "mounting needs root and its capabilities" if error.errno == errno.EPERM else None
    return HostError(f"cannot mount '{target}': {error.strerror}", hint=hint)
