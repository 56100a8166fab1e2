"""What Python's library lacks of Linux: system calls, by libc, and the boot. Each raises OSError with the kernel's own
number.

``ctypes`` is imported at the first call: whoever makes none does not pay for it. Threads may call at the same time.
"""

from __future__ import annotations

import functools
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

NEW_MOUNTS, NEW_NETWORK = 0x0002_0000, 0x4000_0000  # kinds of namespaces. Source: clone(2)
_PIDFD_GETFD, _OPENAT2 = 438, 437  # the same on every architecture
_AT_CWD, _RENAME_EXCHANGE = -100, 2
_HOW = struct.Struct("=QQQ")  # open_how. Source: openat2(2)
_SET_PDEATHSIG, _SET_CHILD_SUBREAPER, _SET_SECUREBITS = 1, 36, 28  # Source: linux/prctl.h
_SOL_SOCKET, _PEERGROUPS, _MOST_GROUPS = 1, 59, 65_536  # as many as a process can have: getgroups(2)

Argument = int | bytes | None


@functools.cache
def boot_id() -> str:
    """Return which boot of this machine it is. Source: random(4)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def invoke(number: int, *arguments: Argument) -> int:
    """Make the system call ``number``. Buffers are bytes, which the kernel may only read."""
    return _checked("syscall", number, *arguments)


def mount(source: str, target: Path, kind: str | None, flags: int, options: str = "") -> None:
    """Source: mount(2)."""
    data = os.fsencode(options) or None
    kind_ = None if kind is None else kind.encode()
    _checked("mount", os.fsencode(source), os.fsencode(target), kind_, flags, data)


def unmount(target: str | Path, flags: int) -> None:
    """Source: umount2(2)."""
    _checked("umount2", os.fsencode(target), flags)


def unshare(kinds: int) -> None:
    """Take this thread into new namespaces of these kinds. Source: unshare(2)."""
    _checked("unshare", kinds)


def enter(namespace: int, kind: int = 0) -> None:
    """Take this thread into a namespace, of which there is a descriptor; ``kind`` 0: of whatever kind it is."""
    _checked("setns", namespace, kind)


def set_securebits(bits: int) -> None:
    """Source: capabilities(7), the securebits flags."""
    _checked("prctl", _SET_SECUREBITS, bits, 0, 0, 0)


def set_file_owner(user: int, group: int) -> None:
    """Have this thread make files as another user. Source: setfsuid(2), which says nothing when it may not."""
    _checked("setfsgid", group)
    _checked("setfsuid", user)


def adopt_orphans() -> None:
    """Become the parent of processes whose parent below this one ends, so that they can be waited for: prctl(2)."""
    _checked("prctl", _SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent(number: int) -> None:
    """Have this process get the signal ``number`` when the thread that forked it ends. Source: prctl(2)."""
    _checked("prctl", _SET_PDEATHSIG, number, 0, 0, 0)


def groups_of_peer(descriptor: int) -> frozenset[int]:
    """Return the supplementary groups that the other end of a Unix socket had when it connected.

    Python's own getsockopt takes no more than 256 of them. Source: unix(7), SO_PEERGROUPS in asm-generic/socket.h
    """
    import array
    import ctypes

    buffer = ctypes.create_string_buffer(_MOST_GROUPS * 4)
    length = ctypes.c_uint(len(buffer))
    _checked("getsockopt", descriptor, _SOL_SOCKET, _PEERGROUPS, ctypes.addressof(buffer), ctypes.addressof(length))
    return frozenset(array.array("I", buffer.raw[: length.value]))


def descriptor_of(process: int, descriptor: int) -> int:
    """Return a descriptor of what another process (a pidfd) has open as ``descriptor``. Source: pidfd_getfd(2)."""
    return invoke(_PIDFD_GETFD, process, descriptor, 0)


def open_below(root: int, path: bytes, flags: int, resolve: int) -> int:
    """Open ``path`` by its rules of resolution, below the folder ``root`` (a descriptor). Source: openat2(2)."""
    return invoke(_OPENAT2, root, path, _HOW.pack(flags, 0, resolve), _HOW.size)


def exchange(one: Path, other: Path) -> None:
    """Have two files or folders of one file system change their names, at once. Source: renameat2(2)."""
    _checked("renameat2", _AT_CWD, os.fsencode(one), _AT_CWD, os.fsencode(other), _RENAME_EXCHANGE)


def trace(request: int, pid: int, address: int, data: int = 0) -> int:
    """Source: ptrace(2). Of the thread that calls: another one of this process traces nothing of it."""
    return _checked("ptrace", request, pid, address, data)


def trace_into(request: int, pid: int, address: int, size_bytes: int) -> bytes:
    """Trace, with a buffer of ``size_bytes`` for the kernel to fill; return it."""
    import ctypes

    buffer = ctypes.create_string_buffer(size_bytes)
    _checked("ptrace", request, pid, address, ctypes.addressof(buffer))
    return buffer.raw


def _checked(name: str, *arguments: Argument) -> int:
    import ctypes

    words: list[Any] = [ctypes.c_long(one) if isinstance(one, int) else one for one in arguments]
    result = _function(name)(*words)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@functools.cache
def _function(name: str) -> Callable[..., int]:
    import ctypes

    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    function.restype = ctypes.c_long if name in ("syscall", "ptrace") else ctypes.c_int
    found: Callable[..., int] = function
    return found
