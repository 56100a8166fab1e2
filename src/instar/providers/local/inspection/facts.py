"""What an instance was like when it was made: kept beside it, in ``made.json``, and compared with how it is now."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from instar.host import cgroups, namespaces, network_view, proc, settings
from instar.host.network_view import NetworkView
from instar.model.codec import from_json, to_json
from instar.model.digest import Digest
from instar.model.release import Process
from instar.providers.local.names import InstanceNames

ENTERED = ("net", "ipc", "uts")
FILES = ("hosts", "hostname", "resolv.conf")
_LIMITS = (
    "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us",
    "pids.max", "devices.list",
    "memory.max", "memory.high", "memory.swap.max", "cpu.max", "cpu.weight",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """``token`` marks commands that Instar itself runs inside. ``layers``: the image's and the plate's diff IDs, and
    the devices that the kernel shows their files on. ``hashes`` are of files in the instance's folder and of runc's."""

    token: str
    mounts: tuple[str, ...]
    namespaces: Mapping[str, str]
    root: tuple[int, ...]  # device and inode of the root folder
    overlay: str
    layers: tuple[Digest, ...]
    devices: tuple[str, ...]
    limits: Mapping[str, str]
    settings: Mapping[str, str]
    network: NetworkView
    hashes: Mapping[str, str]
    keeper_counts: bool = False  # conmon's time to the instance; an older Instar let it count to nobody


@dataclass(frozen=True, kw_only=True, slots=True)
class Inside:
    """What can only be seen from inside of an instance's namespaces."""

    settings: Mapping[str, str]
    network: NetworkView
    listeners: tuple[network_view.Listener, ...]
    first_ephemeral_port: int


def write(names: InstanceNames, process: Process, layers: Sequence[tuple[str, str]]) -> None:
    """Look at an instance whose first process waits to begin, and write down what it is like.

    ``layers``: (diff ID, device) of each, topmost first. Raises HostError, OSError.
    """
    inside = look_inside(process.pid, None)
    made = Facts(
        token=secrets.token_hex(16),
        mounts=tuple(mount_lines(process.pid)),
        namespaces=proc.namespaces(process.pid),
        root=proc.root(process.pid),
        overlay=overlay_of(process.pid),
        layers=tuple(Digest(diff_id) for diff_id, _ in layers),
        devices=tuple(device for _, device in layers),
        limits=limits(names.group),
        settings=inside.settings,
        network=inside.network,
        hashes=hashes(names),
        keeper_counts=True,
    )
    temporary = names.made.with_name(f".{names.made.name}")
    with open(temporary, "w", opener=_private) as file:
        json.dump(to_json(made), file)
    temporary.rename(names.made)


def read(names: InstanceNames) -> Facts | None:
    """Return what was written down; None for an instance of an older Instar, or where it can't be read."""
    try:
        found = names.made.stat()
        return _read(names.made, found.st_ino, found.st_mtime_ns, found.st_size)
    except (OSError, ValueError):
        return None


def look_inside(pid: int, wanted: Iterable[str] | None) -> Inside:
    """Look from inside, at the settings that are ``wanted`` (all: None). Raises HostError."""

    def look() -> Inside:
        return Inside(
            settings=settings.values(settings.names() if wanted is None else wanted),
            network=network_view.view(),
            listeners=network_view.listeners(),
            first_ephemeral_port=network_view.first_ephemeral_port(),
        )

    return namespaces.inside_of(pid, ENTERED, look)


def mount_lines(pid: int) -> Iterator[str]:
    """Yield each mount as a line "POINT KIND DEVICE ROOT OPTIONS NUMBER PARENT SHARED OF_ALL", in their order.

    The options of a whole file system count only where the mount shows all of it: others are the machine's business.
    """
    for one in proc.mounts(pid):
        of_all = one.of_all if one.root == "/" else ""
        shown = (one.point, one.kind, one.device, one.root, one.options, one.number, one.parent, one.shared, of_all)
        yield "\t".join(map(str, shown))


def overlay_of(pid: int) -> str:
    """Return the device of the root, as mountinfo writes it."""
    return next((one.device for one in proc.mounts(pid) if one.point == "/"), "")


def limits(group: str, wanted: Collection[str] | None = None) -> Mapping[str, str]:
    """Return what limits the group, by file below the cgroups' mount: all that there is, or what is ``wanted``."""
    found = {}
    for hierarchy in cgroups.hierarchies():
        folder, prefix = f"{hierarchy.mount}/{group}", hierarchy.mount.name
        for name in _LIMITS:
            key = f"{prefix}/{name}"
            if wanted is not None and key not in wanted:
                continue
            try:
                found[key] = proc.read(f"{folder}/{name}").decode().strip()
            except OSError:
                continue
    return found


def hashes(names: InstanceNames) -> Mapping[str, str]:
    """Return the SHA-256 of each file that says what the instance is; "" for one that isn't there."""
    folder = names.folder
    paths = {name: folder / name for name in (*FILES, "config.json")}
    paths["state.json"] = names.of.state.runc / names.name / "state.json"
    return {name: hash_of(path) for name, path in paths.items()}


def hash_of(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


@functools.lru_cache(maxsize=1024)
def _read(path: Path, *_identity: int) -> Facts:
    return from_json(Facts, json.loads(path.read_bytes()))


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
