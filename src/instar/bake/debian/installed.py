"""What must not stay as scripts left it: after a step that installed packages, and after a line of the definition's."""

from __future__ import annotations

from pathlib import Path

from instar.bake.debian import keys, moments
from instar.bake.scratch import Room


def settle_installation(tree: Path, room: Room) -> None:
    """Leave out the keys that packages' scripts made, and settle their moments. Raises StepFailed, OSError.

    Bake format 1 never did that: there a key is refused, and all else stays as it is.
    """
    found = keys.find_keys(tree)
    if room.bake_format == 1:
        if found:
            raise room.failed(
                f"bake format 1 would make {found[0]} a part of the image, the same in every instance",
                hint="a lock of bake format 2 leaves it out: instar lock",
            )
        return
    for key in found:
        key.file.unlink()
        room.note(f"left out {key}")
    moments.settle(tree, [key.path for key in found], room.epoch)


def warn_of_keys(tree: Path, room: Room) -> None:
    """Say which private keys a line of the definition's has left: it is for its author to say whether it may."""
    for shown in keys.private_keys(tree):
        room.warn(f"'{shown}' is a private key: every instance has the same; make it when the service starts")
