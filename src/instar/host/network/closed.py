"""A network in which there is one door: a namespace with nothing but its loopback, on which this process listens.

A socket belongs to the namespace that its thread was in when it was made; so the door is made inside, and answered out
here. Nothing is named or mounted: the namespace lasts as long as something holds it.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

from instar import syscalls
from instar.errors import HostError
from instar.frozen import dataclass
from instar.host.network.netlink import Netlink
from instar.threads import apart

_WAITING = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class ClosedNetwork:
    """``namespace`` is a path to it; ``door`` listens on ``port`` of 127.0.0.1 there."""

    namespace: Path
    door: socket.socket
    port: int


@contextlib.contextmanager
def closed_network() -> Iterator[ClosedNetwork]:
    """Give one, until the block ends. Raises HostError."""
    try:
        descriptor, door = apart(_made)
    except OSError as error:
        raise HostError(f"cannot make a network for a sandbox: {error.strerror or error}") from error
    try:
        with door:
            namespace = Path(f"/proc/{os.getpid()}/fd/{descriptor}")
            yield ClosedNetwork(namespace=namespace, door=door, port=door.getsockname()[1])
    finally:
        os.close(descriptor)


def _made() -> tuple[int, socket.socket]:
    syscalls.unshare(syscalls.NEW_NETWORK)
    own = f"/proc/self/task/{threading.get_native_id()}/ns/net"
    descriptor = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with Netlink() as link:
            link.set_up("lo")
        door = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        door.bind(("127.0.0.1", 0))
        door.listen(_WAITING)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, door
