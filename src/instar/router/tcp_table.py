"""The kernel's table of TCP sockets, whose they are, and a way to share them.

Reads /proc of the network namespace that this process is in. Source: proc(5), /proc/net/tcp; pidfd_getfd(2).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from instar import syscalls
from instar.errors import RouterError
from instar.frozen import dataclass
from instar.router.address import Address

LISTENING: Final = 0x0A
_CONNECTED: Final = (0x01, 0x02, 0x04, 0x05, 0x08)  # established, being opened, half closed by one side


@dataclass(frozen=True, slots=True)
class Row:
    local: Address
    remote: Address | None
    state: int
    inode: int


def listening() -> Iterator[Row]:
    return (row for row in _rows() if row.state == LISTENING)


def connected_to(remotes: Collection[Address]) -> Iterator[Row]:
    """Yield the connections of this machine's own to any of ``remotes``."""
    return (row for row in _rows() if row.state in _CONNECTED and row.remote in remotes)


def listening_at(name: str) -> tuple[int, ...]:
    """Return the inodes of the sockets of this machine's own (AF_UNIX) that listen at a path of that name.

    Source: linux/net/unix/af_unix.c, "unix_seq_show"; flag 0x10000 is that of a socket that listens.
    """
    rows = (line.split(maxsplit=7) for line in Path("/proc/self/net/unix").read_text(errors="replace").splitlines()[1:])
    return tuple(
        int(row[6]) for row in rows if len(row) == 8 and int(row[3], 16) & 0x10000 and row[7].endswith(f"/{name}")
    )


def owners(inodes: Collection[int]) -> tuple[int, ...]:
    """Return the pids of the processes that have one of these sockets open."""
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdigit())  # noqa: PTH208 - many and only names
    return tuple(pid for pid in pids if any(_descriptors(pid, inodes)))


def held_by(pid: int, inodes: Collection[int]) -> dict[int, int]:
    """Return which of these sockets process ``pid`` has: inode → its descriptor there."""
    return {inode: descriptor for descriptor, inode in _descriptors(pid, inodes)}


def shared(pid: int, inodes: Collection[int]) -> dict[int, socket.socket]:
    """Return which of these sockets process ``pid`` has, each as one's own too; none of a process that is gone.

    Raises RouterError when the kernel does not allow it.
    """
    try:
        handle = os.pidfd_open(pid)
    except OSError:
        return {}
    try:
        return {inode: _share(handle, descriptor) for inode, descriptor in held_by(pid, inodes).items()}
    finally:
        os.close(handle)


def _share(pidfd: int, descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=syscalls.descriptor_of(pidfd, descriptor))
    except OSError as error:
        raise RouterError(
            f"cannot take the router's socket over: {error.strerror}",
            hint="the kernel must let root trace processes: sysctl kernel.yama.ptrace_scope may be at most 2",
        ) from error


def _descriptors(pid: int, inodes: Collection[int]) -> Iterator[tuple[int, int]]:
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):  # noqa: PTH208 - a busy server has thousands
            with contextlib.suppress(OSError):
                target = os.readlink(f"/proc/{pid}/fd/{name}")  # noqa: PTH115
                if target.startswith("socket:[") and int(target[8:-1]) in inodes:
                    yield int(name), int(target[8:-1])


def _rows() -> Iterator[Row]:
    for name, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        with contextlib.suppress(FileNotFoundError):
            for line in Path(f"/proc/self/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                local = _address(fields[1], family)
                if local is not None:
                    remote = _address(fields[2], family)
                    yield Row(local, remote, int(fields[3], 16), int(fields[9]))


def _address(text: str, family: socket.AddressFamily) -> Address | None:
    """Read "0100007F:1F90": words as this machine stores them, then the port. None without a port."""
    words, _, port = text.partition(":")
    packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    host = socket.inet_ntop(family, packed)
    return Address(host, int(port, 16)) if int(port, 16) else None
