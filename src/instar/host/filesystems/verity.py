"""dm-verity: a file as a block device, every block of which the kernel checks against a tree of hashes as it reads it.

Whatever changes the file beneath, through the kernel or past it, is never read: the reader gets an input/output error,
and the device remembers that. The tree is made when the device is, of a file whose bytes were just found right, and
lies in memory that has no name; only its root is given out. A device goes when the last that is mounted from it goes.

What cannot be had is no error: a kernel without dm-verity, a machine without ``veritysetup``. Source: veritysetup(8),
the kernel's admin-guide/device-mapper/verity.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from instar import process
from instar.errors import CommandFailed, ComponentMissing, HostError
from instar.frozen import dataclass
from instar.host.kernel import loop_devices

PROGRAM = "veritysetup"
_NODES = Path("/dev/mapper")
_NO_SALT = "--salt=-"  # the same file always has the same root
_TIMEOUT_S = 600


@dataclass(frozen=True, kw_only=True, slots=True)
class Device:
    """``root``: the root of the tree of hashes, 64 hexadecimal digits. ``file``: what it stands on. ``sound``: nothing
    else than what was there when it was made was ever read from it."""

    path: Path
    root: str
    file: str
    sound: bool


def is_usable() -> bool:
    """Tell whether this machine has what it takes; of the kernel's part only a try tells."""
    return in_kernel() and process.find_program(PROGRAM) is not None


def in_kernel() -> bool:
    """Tell whether the kernel has device-mapper at all."""
    return (_NODES / "control").exists()


@contextlib.contextmanager
def opened(file: Path, prefix: str) -> Iterator[Device | None]:
    """Yield ``file`` as a device called ``prefix`` and more, which goes when nothing is mounted from it any more.

    None where that cannot be had. Who is killed inside leaves a device, for :func:`sweep`.
    """
    device = _open(file, f"{prefix}{secrets.token_hex(4)}") if is_usable() else None
    try:
        yield device
    finally:
        if device is not None:
            _close(device.path.name)


def look(source: str) -> Device | None:
    """Return the device that is ``source`` of a mount; None where that is no such device.

    Raises ComponentMissing when the program that knows is gone.
    """
    path = Path(source)
    if path.parent != _NODES:
        return None
    told = process.run([PROGRAM, "status", path.name], check=False).stdout.decode(errors="replace")
    lines = dict(_pair(line) for line in told.splitlines())
    if lines.get("type") != "VERITY":
        return None
    return Device(
        path=path,
        root=lines.get("root hash", ""),
        file=lines.get("data loop", ""),
        sound=lines.get("status") == "verified",
    )


def sweep(prefix: str) -> None:
    """Have every device go that nothing is mounted from."""
    for entry in Path("/sys/block").glob("dm-*/dm/name"):
        with contextlib.suppress(OSError):
            name = entry.read_text().strip()
            if name.startswith(prefix):
                _close(name)


def _open(file: Path, name: str) -> Device | None:
    tree = os.memfd_create("verity")
    path = f"/proc/self/fd/{tree}"
    try:
        made = process.run([PROGRAM, "format", _NO_SALT, file, path], pass_fds=[tree], timeout_s=_TIMEOUT_S)
        root = dict(_pair(line) for line in made.stdout.decode().splitlines())["Root hash"]
        # veritysetup's own loop devices are for files that can be written
        with loop_devices.attached(file) as data, loop_devices.attached(Path(path)) as hashes:
            process.run([PROGRAM, "open", data, name, hashes, root])
    except (CommandFailed, HostError):
        return None
    finally:
        os.close(tree)
    return Device(path=_NODES / name, root=root, file=str(file), sound=True)


def _close(name: str) -> None:
    with contextlib.suppress(ComponentMissing, CommandFailed):
        process.run([PROGRAM, "close", "--deferred", name], check=False)


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()
