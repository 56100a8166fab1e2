"""Loop devices: files as block devices, for kernels that mount a file system only from one.

A device is freed by the kernel when its last user is gone: whoever holds it here, or what is mounted from it. So one
that was taken by a process that was killed is free again at once. What it stands on is in
/sys/block/loopN/loop/backing_file. Source: loop(4), linux/loop.h.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from instar.errors import HostError

_CONTROL = "/dev/loop-control"
_GET_FREE, _CONFIGURE, _SET_CAPACITY = 0x4C82, 0x4C0A, 0x4C07
_READ_ONLY, _AUTOCLEAR = 1, 4
_CONFIG = struct.Struct("=II 5Q 4I 64s 64s 32s 2Q 64x")  # loop_config with the loop_info64 in it
_TRIES = 64


@contextlib.contextmanager
def attached(file: Path, *, writable: bool = False) -> Iterator[Path]:
    """Yield a block device of ``file``, which goes when nothing is mounted from it. Raises HostError."""
    try:
        backing = os.open(file, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        try:
            device, handle = _take(backing, file, 0 if writable else _READ_ONLY)
        finally:
            os.close(backing)
    except OSError as error:
        raise HostError(
            f"cannot make '{file}' a block device: {error.strerror}",
            hint="it is mounted from a loop device: modprobe loop",
        ) from error
    try:
        yield device
    finally:
        os.close(handle)


def backing_file(source: str) -> str:
    """Return the file that ``source``, the source of a mount, stands on: of a loop device its file, else itself."""
    name = source.removeprefix("/dev/")
    if not name.startswith("loop"):
        return source
    try:
        return Path(f"/sys/block/{name}/loop/backing_file").read_text().rstrip("\n")
    except OSError:
        return ""


def find(file: Path) -> Path | None:
    """Return the device that ``file`` is already."""
    for entry in Path("/sys/block").glob("loop*"):
        with contextlib.suppress(OSError):
            if (entry / "loop/backing_file").read_text().rstrip("\n") == str(file):
                return Path("/dev", entry.name)
    return None


def adjust(device: Path) -> None:
    """Give a device the length that its file has by now. Raises HostError."""
    try:
        handle = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.ioctl(handle, _SET_CAPACITY)
        finally:
            os.close(handle)
    except OSError as error:
        raise HostError(f"cannot let '{device}' grow: {error.strerror}") from error


def _take(backing: int, file: Path, how: int) -> tuple[Path, int]:
    name = os.fsencode(file)[-63:]
    config = _CONFIG.pack(backing, 0, 0, 0, 0, 0, 0, 0, 0, 0, how | _AUTOCLEAR, name, b"", b"", 0, 0)
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            device = Path(f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}")
            handle = os.open(device, (os.O_RDONLY if how & _READ_ONLY else os.O_RDWR) | os.O_CLOEXEC)
            try:
                fcntl.ioctl(handle, _CONFIGURE, config)
            except OSError as error:
                os.close(handle)
                if error.errno not in (errno.EBUSY, errno.ENXIO):  # another was quicker, or it is just being freed
                    raise
            else:
                return device, handle
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
