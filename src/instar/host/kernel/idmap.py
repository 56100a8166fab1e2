"""Mounts whose owners are shifted into a user namespace, and other properties that one mount has and its source hasn't.

``clone`` copies a mount (an image's layer, a volume's directory) to another place and shifts its owners there: what
belongs to 10001 on the disk belongs to 10001 inside. The kernel does it for ext4, xfs, btrfs, from 5.19 for EROFS and
for an overlay of such mounts, from 6.3 for tmpfs; where it doesn't, it says so and
:class:`.namespaces.Unsupported` is raised.
Source: mount_setattr(2), open_tree(2), move_mount(2).
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from instar import syscalls
from instar.errors import HostError
from instar.host.kernel.namespaces import Unsupported

RDONLY, NOSUID, NODEV, NOEXEC = 0x1, 0x2, 0x4, 0x8
NOSYMFOLLOW = 0x0020_0000
_IDMAP = 0x0010_0000
_PRIVATE = 1 << 18

# the same on every architecture. Source: asm-generic/unistd.h
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_TREE_CLONE, _TREE_CLOEXEC = 1, os.O_CLOEXEC
_AT_FDCWD, _AT_EMPTY_PATH, _MOVE_EMPTY_PATH, _MOVE_TO_EMPTY_PATH = -100, 0x1000, 0x4, 0x40
_ATTRIBUTES = struct.Struct("=QQQQ")  # set, clear, propagation, user namespace
_NOT_HERE = frozenset({errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP})


def clone(source: Path, target: Path, *, users: int | None = None, attributes: int = 0) -> None:
    """Show ``source`` at ``target`` with ``attributes``, its owners shifted into the user namespace ``users`` (a fd).

    What is mounted in the one later, on a machine whose mounts are shared as systemd's are, does not show in the other.
    Raises Unsupported when only the shifting fails, HostError for anything else.
    """
    try:
        with detached(source, attributes=attributes, users=users) as tree:
            syscalls.invoke(_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_EMPTY_PATH)
    except OSError as error:
        raise _failed(target, error) from error


@contextlib.contextmanager
def detached(source: Path, *, attributes: int = 0, without: int = 0, users: int | None = None) -> Iterator[int]:
    """Yield a copy of ``source`` that is mounted nowhere, with ``attributes`` and not ``without``. Raises OSError."""
    tree = syscalls.invoke(_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _TREE_CLONE | _TREE_CLOEXEC)
    try:
        if users is not None:
            _shift(tree, source, users)
        _set(tree, attributes, without=without, propagation=_PRIVATE)
        yield tree
    finally:
        os.close(tree)


def attach(tree: int, folder: int) -> None:
    """Mount the copy ``tree`` at an open folder, in the mount namespace of this process. Raises OSError."""
    syscalls.invoke(_MOVE_MOUNT, tree, b"", folder, b"", _MOVE_EMPTY_PATH | _MOVE_TO_EMPTY_PATH)


def restrict(target: Path, attributes: int) -> None:
    """Add ``attributes`` to the mount at ``target``. Raises HostError."""
    tree = os.open(target, os.O_PATH | os.O_CLOEXEC)
    try:
        _set(tree, attributes)
    except OSError as error:
        raise _failed(target, error) from error
    finally:
        os.close(tree)


def _shift(tree: int, source: Path, users: int) -> None:
    try:
        _set(tree, _IDMAP, users)
    except OSError as error:
        if error.errno in _NOT_HERE:
            raise Unsupported(f"the owners of '{source}' cannot be shifted here: {error.strerror}") from error
        raise


def _set(tree: int, attributes: int, users: int = 0, propagation: int = 0, without: int = 0) -> None:
    packed = _ATTRIBUTES.pack(attributes, without, propagation, users)
    syscalls.invoke(_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, packed, len(packed))


def _failed(target: Path, error: OSError) -> HostError:
    return HostError(f"cannot mount '{target}': {error.strerror}")
