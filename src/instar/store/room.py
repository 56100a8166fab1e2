"""How much may be put on a file system: what is free, but for a reserve that others there (the ledger, logs) live on.

What comes from elsewhere is held against it before it is written: a small archive can unfold to any size.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from instar.errors import StoreError
from instar.frozen import dataclass
from instar.model.sizes import size_text

UNPACK_LIMIT_BYTES: Final = 64 << 30  # of one layer
ALLOWED: Final = "that are allowed"
_RESERVE_BYTES: Final = 1 << 30
_RESERVED_PART: Final = 20  # one of so many, on a small file system


@dataclass(frozen=True, kw_only=True, slots=True)
class Limit:
    """``why``: how "more than 3 bytes" goes on."""

    size_bytes: int
    why: str = ALLOWED


def limited(size_bytes: int, path: Path, *, copies: int = 1) -> Limit:
    """Return a limit of so many bytes, or of what there is room for at ``path`` when it is to lie there ``copies``
    times. Raises OSError."""
    mount, room_bytes = free_room(path)
    room_bytes //= copies
    if room_bytes >= size_bytes:
        return Limit(size_bytes=size_bytes)
    return Limit(size_bytes=room_bytes, why=f"that there is room for at '{mount}'")


def require_room(size_bytes: int, path: Path, action: str) -> None:
    """Raise StoreError "cannot ‹action›: …" where so many bytes have no room at ``path``."""
    mount, room_bytes = free_room(path)
    if size_bytes > room_bytes:
        raise StoreError(
            f"cannot {action}: {size_text(size_bytes)} are to come, and the file system at '{mount}' has room for "
            f"{size_text(room_bytes)}",
            hint="free space there; instar gc --all removes what no kept release needs",
        )


def mount_of(path: Path) -> Path:
    """Return where the file system is mounted on which ``path`` is, or would be."""
    mount = path.absolute()
    while not mount.exists() or not mount.is_mount():
        mount = mount.parent
    return mount


def free_room(path: Path) -> tuple[Path, int]:
    mount = mount_of(path)
    status = os.statvfs(mount)
    reserve_bytes = min(_RESERVE_BYTES, status.f_blocks * status.f_frsize // _RESERVED_PART)
    return mount, max(0, status.f_bavail * status.f_frsize - reserve_bytes)
