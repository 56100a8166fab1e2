"""Listening sockets: opened, found in another process, or refused with the name of who has the port."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from instar.errors import RouterError
from instar.router import tcp_table
from instar.router.address import Address

BACKLOG = 4096
DOOR = "door.sock"
_TCP_NOTSENT_LOWAT = 25  # Source: linux/tcp.h
_FREEBIND = 15  # Source: linux/in.h
_AHEAD_BYTES = 128 * 1024
Describe = Callable[[int], str | None]  # pid → whose router it is, for messages


def taken_from(pid: int) -> dict[Address, socket.socket]:
    """Return the sockets that process ``pid`` listens on, shared with this process."""
    rows = {row.inode: row.local for row in tcp_table.listening()}
    return {rows[inode]: one for inode, one in tcp_table.shared(pid, rows).items()}


def opened(
    address: Address, own: Mapping[Address, socket.socket], describe: Describe, *, early: bool = False
) -> socket.socket:
    """Return a new socket that listens on ``address``, also where it overlaps ``own`` ones ("every address").
    ``early``: also before this machine has that address.

    Raises RouterError, naming who has the port.
    """
    one = _bare(address)
    if early:
        one.setsockopt(socket.SOL_IP, _FREEBIND, 1)
    try:
        with _beside(one, [other for where, other in own.items() if where.overlaps(address)]):
            one.bind((address.host, address.port))
            one.listen(BACKLOG)
    except OSError as error:
        one.close()
        raise refused(address, error, describe, ()) from error
    return one


def door_taken_from(pid: int) -> socket.socket | None:
    """Return the socket that process ``pid`` listens on for the edge, shared with this process."""
    found = list(tcp_table.shared(pid, tcp_table.listening_at(DOOR)).values())
    for one in found[1:]:
        one.close()
    return found[0] if found else None


def door_opened(directory: Path, owner: int, group: int) -> socket.socket:
    """Return a new socket that listens in ``directory`` for the edge, which runs as ``owner`` and ``group``. Nobody
    else may come to it. Raises RouterError."""
    one = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        for folder, mode in ((directory.parent.parent, 0o700), (directory.parent, 0o710), (directory, 0o710)):
            folder.mkdir(exist_ok=True, mode=mode)
            folder.chmod(mode)  # whatever the umask
        (directory / DOOR).unlink(missing_ok=True)
        holder = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)  # a socket's path is short
        try:
            one.bind(f"/proc/self/fd/{holder}/{DOOR}")
        finally:
            os.close(holder)
        for folder in (directory.parent, directory):
            os.chown(folder, -1, group)
        os.chown(directory / DOOR, owner, group)
        (directory / DOOR).chmod(0o600)
        one.listen(BACKLOG)
    except OSError as error:
        one.close()
        raise RouterError(f"cannot listen in '{directory}' for the edge: {error.strerror}") from error
    return one


def prepare(one: socket.socket) -> None:
    """Have the connections that it accepts keep little ahead of what a client takes: with megabytes there, HAProxy
    would see nothing happen for many seconds while somebody reads slowly. Their speed stays what it is."""
    one.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _AHEAD_BYTES)


def require_free(address: Address, own_pids: Collection[int], describe: Describe) -> None:
    """Raise RouterError unless ``address`` could be listened on, or only ``own_pids`` listen there now."""
    with _bare(address) as one:
        try:
            one.bind((address.host, address.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not set(_owners(address)) <= set(own_pids):
                raise refused(address, error, describe, own_pids) from error


def refused(address: Address, error: OSError, describe: Describe, own_pids: Collection[int]) -> RouterError:
    """Return the error for people."""
    if error.errno == errno.EADDRINUSE:
        others = [pid for pid in _owners(address) if pid not in own_pids]
        ours = next((text for text in map(describe, others) if text), None)
        hint = "choose another address" if ours else "end it, or choose another address"
        return RouterError(f"cannot listen on '{address}': {ours or _who(others)} has the port", hint=hint)
    if error.errno == errno.EADDRNOTAVAIL:
        every = "[::]" if address.version == 6 else "0.0.0.0"  # noqa: S104  told, not listened on
        hint = f"'ip address' shows which it has; {every} stands for all of them"
        return RouterError(f"cannot listen on '{address}': this machine does not have that address", hint=hint)
    return RouterError(f"cannot listen on '{address}': {error.strerror}")


def _bare(address: Address) -> socket.socket:
    """Return a socket that an earlier one's dying connections don't keep from ``address``. Raises RouterError."""
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        one = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:  # a kernel without IPv6
        raise RouterError(f"cannot listen on '{address}': {error.strerror}") from error
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address.version == 6:
        one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return one


@contextlib.contextmanager
def _beside(new: socket.socket, own: Sequence[socket.socket]) -> Iterator[None]:
    """Let ``new`` listen beside ``own``; then forbid it again, as whoever may share a port gets half its traffic."""
    shared = (new, *own) if own else ()
    for one in shared:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield
    finally:
        for one in shared:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def _owners(address: Address) -> tuple[int, ...]:
    return tcp_table.owners({row.inode for row in tcp_table.listening() if row.local.overlaps(address)})


def _who(pids: Sequence[int]) -> str:
    if not pids:
        return "another process"
    pid = pids[0]
    name = "unknown"
    with contextlib.suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    return f"process {pid} ({name})"
