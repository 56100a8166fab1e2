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
_GET_FREE, _CONFIGURE = 0x4C82, 0x4C0A
_READ_ONLY, _AUTOCLEAR = 1, 4
_CONFIG = struct.Struct("=II 5Q 4I 64s 64s 32s 2Q 64x")  # loop_config with the loop_info64 in it
_TRIES = 64


@contextlib.contextmanager
def attached(file: Path) -> Iterator[Path]:
    """Yield a read-only block device of ``file``, which goes when nothing is mounted from it. Raises HostError."""
    try:
        backing = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            device, handle = _take(backing, file)
        finally:
            os.close(backing)
    except OSError as error:
        raise HostError(
            f"cannot make '{file}' a block device: {error.strerror}",
            hint="this kernel mounts EROFS only from loop devices: modprobe loop",
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


def _take(backing: int, file: Path) -> tuple[Path, int]:
    name = os.fsencode(file)[-63:]
    config = _CONFIG.pack(backing, 0, 0, 0, 0, 0, 0, 0, 0, 0, _READ_ONLY | _AUTOCLEAR, name, b"", b"", 0, 0)
    control = os.open(_CONTROL, os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            device = Path(f"/dev/loop{fcntl.ioctl(control, _GET_FREE)}")
            handle = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
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
