"""What an entry of ``files`` keeps of the author's files only where its ``keep`` names it: bits, capabilities,
attributes, and that several names are one file. Read from files that are open; put on
what the step has just made."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from instar.frozen import dataclass
from instar.store.overlay import is_carried

if TYPE_CHECKING:
    from instar.bake.files.sources import FoundFile
    from instar.bake.root import Root

_CAPABILITY = "security.capability"
_CAPABILITY_BYTES, _REVISION = 20, 2  # of a machine's own root. Source: capabilities(7), "File capability versioning"
_BITS = stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Unkeepable(ValueError):
    """What was asked to be kept cannot be, as a message without the file's name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KeptFile:
    """``file`` tells which file it is here, where that has several names; ``same_as`` is the path of the first of them,
    for the others."""

    bits: int = 0
    attributes: tuple[tuple[str, bytes], ...] = ()
    file: tuple[int, int] | None = None
    same_as: str = ""


NOTHING_KEPT = KeptFile()


def kept_of(folder: int, name: str, keep: Sequence[str]) -> KeptFile:
    """Return what is to be kept of the folder ``name`` in ``folder``. Raises OSError, Unkeepable."""
    if not keep:
        return NOTHING_KEPT
    descriptor = os.open(name, _FOLDER, dir_fd=folder)
    try:
        return kept_of_open(descriptor, keep)
    finally:
        os.close(descriptor)


def kept_of_open(descriptor: int, keep: Sequence[str]) -> KeptFile:
    """Return what is to be kept of what is open. Raises OSError, Unkeepable."""
    status = os.fstat(descriptor)
    several = "hardlinks" in keep and stat.S_ISREG(status.st_mode) and status.st_nlink > 1
    names = sorted(os.listxattr(descriptor)) if {"attributes", "capabilities"}.intersection(keep) else ()
    wanted = [name for name in names if _is_asked(name, keep)]
    return KeptFile(
        bits=status.st_mode & _BITS if "setuid" in keep else 0,
        attributes=tuple((name, _value(descriptor, name)) for name in wanted),
        file=(status.st_dev, status.st_ino) if several else None,
    )


def _is_asked(name: str, keep: Sequence[str]) -> bool:
    return (name == _CAPABILITY and "capabilities" in keep) or (
        name.startswith("user.") and is_carried(name) and "attributes" in keep
    )


def _value(descriptor: int, name: str) -> bytes:
    if "=" in name:
        raise Unkeepable(f"no layer can hold its extended attribute '{name}', for the '=' in its name")
    value = os.getxattr(descriptor, name)
    if name == _CAPABILITY and (len(value) != _CAPABILITY_BYTES or value[3] != _REVISION):
        raise Unkeepable("its capabilities are of a user namespace, and not of this machine")
    return value


def same_files(found: Iterable[FoundFile]) -> tuple[FoundFile, ...]:
    """Return what was found, of several names of one file all but the first as names of that."""
    import dataclasses

    first: dict[tuple[int, int], str] = {}
    told = []
    for one in found:
        file = one.kept.file
        path = first.setdefault(file, one.path) if file else one.path
        same = "" if path == one.path else path
        told.append(dataclasses.replace(one, kept=dataclasses.replace(one.kept, same_as=same)) if same else one)
    return tuple(told)


def identity_of_kept(found: Iterable[FoundFile]) -> list[Any]:
    """Return what is kept, for a step's key: only of what has something to keep."""
    return [
        [
            os.fsencode(one.path).hex(),
            kept.bits,
            [[*pair] for pair in _hexadecimal(kept)],
            os.fsencode(kept.same_as).hex(),
        ]
        for one in found
        if (kept := one.kept).bits or kept.attributes or kept.same_as
    ]


def _hexadecimal(kept: KeptFile) -> list[tuple[str, str]]:
    return [(os.fsencode(name).hex(), value.hex()) for name, value in kept.attributes]


def put_kept(root: Root, path: str, kept: KeptFile) -> None:
    """Give what was just made at ``path`` what is kept. Its owner is its own already. Raises OSError."""
    if kept.bits or kept.attributes:
        root.add_to(path, bits=kept.bits, attributes=dict(kept.attributes))
