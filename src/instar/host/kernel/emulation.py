"""Which architectures' programs this machine runs: its own, and those that the kernel hands to an emulator.

An emulator is registered with binfmt_misc, as Debian's qemu-user-static does. One that the kernel does not open at once
(flag F) would be looked for in the root of the program itself, and is no use in a root that has none.

Source: Documentation/admin-guide/binfmt-misc.rst; System V ABI, "ELF Header".
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from instar.model.architectures import ARCHITECTURES

_REGISTERED: Final = Path("/proc/sys/fs/binfmt_misc")
_MACHINES: Final = {"amd64": 62, "arm64": 183}  # ELF's numbers
_HEADER_BYTES: Final = 128  # that the kernel looks at
_OPENED_AT_ONCE: Final = "F"


def own_architecture() -> str:
    """Return this machine's architecture, by Debian's name where that is known."""
    machine = os.uname().machine
    return ARCHITECTURES.get(machine, machine)


def runs(architecture: str, registered: Path = _REGISTERED) -> bool:
    """Tell whether programs of an architecture (Debian's name) run here, in any root. ``registered``: where the kernel
    says which formats it hands to whom."""
    if architecture == own_architecture():
        return True
    machine = _MACHINES.get(architecture)
    if machine is None or _text(registered / "status").strip() != "enabled":
        return False
    program = b"\x7fELF\x02\x01\x01" + bytes(9) + (2).to_bytes(2, "little") + machine.to_bytes(2, "little")
    names = sorted(path for path in registered.iterdir() if path.name not in ("register", "status"))
    return any(_takes(_text(path), program.ljust(_HEADER_BYTES, b"\0")) for path in names)


def _takes(entry: str, program: bytes) -> bool:
    """Tell whether a registered format takes a program that begins so, whatever its root."""
    lines = entry.splitlines()
    told = dict(line.partition(" ")[::2] for line in lines)
    if "enabled" not in lines or _OPENED_AT_ONCE not in told.get("flags:", "") or "magic" not in told:
        return False
    try:
        magic, offset = bytes.fromhex(told["magic"]), int(told.get("offset", "0"))
        mask = bytes.fromhex(told["mask"]) if "mask" in told else b"\xff" * len(magic)
    except ValueError:
        return False
    found = program[offset : offset + len(magic)]
    return len(found) == len(magic) == len(mask) and all(
        (one ^ wanted) & bits == 0 for one, wanted, bits in zip(found, magic, mask, strict=True)
    )


def _text(path: Path) -> str:
    """Return what is in a file of the kernel's; "" where there is none."""
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
