"""What an instance was like when it was made: kept beside it, in ``made.json``, and compared with how it is now."""

from __future__ import annotations

import functools
import hashlib
import json
import secrets
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import field
from pathlib import Path

from instar import durable
from instar.frozen import dataclass
from instar.host.kernel import cgroups, namespaces, settings
from instar.host.network import network_view
from instar.host.network.guests import Guest
from instar.host.network.network_view import NetworkView
from instar.host.processes import marks, proc
from instar.model.codec import ADDED, from_json, parse, to_json
from instar.model.digest import Digest
from instar.process import Process
from instar.providers.local.names import InstanceNames

ENTERED = ("net", "ipc", "uts")
FILES = ("hosts", "hostname", "resolv.conf")
_LIMITS = (
    "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.kmem.tcp.limit_in_bytes",
    "memory.oom_control", "cpu.shares", "cpu.cfs_quota_us", "cpu.cfs_period_us", "cpu.cfs_burst_us", "pids.max",
    "devices.list",
    "memory.max", "memory.high", "memory.swap.max", "memory.oom.group", "cpu.max", "cpu.max.burst", "cpu.weight",
)  # fmt: skip
_COUNTS_TOO = "memory.oom_control"  # the first line says what is set, the others what has happened


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """``token`` marks commands that Instar itself runs inside. ``layers``: the image's and the plate's diff IDs, and
    the devices that the kernel shows their files on. ``hashes`` are of files in the instance's folder and of runc's.

    What follows them an older Instar did not write down: ``marked`` (the first process carries the mark of this very
    file), ``rlimits`` and ``oom_score`` of the first process, ``modes`` of what shows inside, ``seals`` of the layers,
    ``guest``: what ties its link.
    An instance without them is judged without them.
    """

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
    marked: bool = field(default=False, metadata=ADDED)
    rlimits: Mapping[str, int] = field(default_factory=dict, metadata=ADDED)
    oom_score: int | None = field(default=None, metadata=ADDED)
    modes: Mapping[str, str] = field(default_factory=dict, metadata=ADDED)
    seals: Mapping[str, str] = field(default_factory=dict, metadata=ADDED)
    guest: Guest | None = field(default=None, metadata=ADDED)


@dataclass(frozen=True, kw_only=True, slots=True)
class Inside:
    """What can only be seen from inside of an instance's namespaces."""

    settings: Mapping[str, str]
    network: NetworkView
    listeners: tuple[network_view.Listener, ...]
    first_ephemeral_port: int


def write(
    names: InstanceNames,
    process: Process,
    layers: Sequence[tuple[str, str]],
    *,
    modes: Mapping[str, str],
    seals: Mapping[str, str],
    guest: Guest,
) -> None:
    """Look at an instance whose first process waits to begin, write down what it is like, and give that process the
    mark of what is written. Raises HostError, OSError.

    ``layers``: (diff ID, device) of each, topmost first; ``modes``: of what shows inside; ``seals``: the note of each
    layer's file.
    """
    made = look(names, process, layers, modes=modes, seals=seals, guest=guest)
    text = json.dumps(to_json(made)).encode()
    durable.write(names.made, text, lasting=False)
    if made.marked:
        marks.mark(process.pid, marks.mark_of(text), _users(names))


def look(
    names: InstanceNames,
    process: Process,
    layers: Sequence[tuple[str, str]],
    *,
    modes: Mapping[str, str],
    seals: Mapping[str, str],
    guest: Guest | None,
) -> Facts:
    """Return what an instance is like now. Raises HostError, OSError."""
    inside = look_inside(process.pid, None)
    return Facts(
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
        marked=marks.is_possible(_users(names)),
        rlimits=marks.hard(marks.text_of(process.pid)),
        oom_score=proc.oom_score(process.pid),
        modes=modes,
        seals=seals,
        guest=guest,
    )


def read(names: InstanceNames) -> Facts | None:
    """Return what was written down; None for an instance of an older Instar, or where it can't be read."""
    found = _found(names)
    return None if found is None else found[0]


def _users(names: InstanceNames) -> Path | None:
    return names.users if names.users.exists() else None


def mark(names: InstanceNames) -> int | None:
    """Return the mark of what was written down, which the first process carries; None where nothing can be read, and
    for an instance of an older Instar."""
    found = _found(names)
    return found[1] if found is not None and found[0].marked else None


def _found(names: InstanceNames) -> tuple[Facts, int] | None:
    try:
        found = names.made.stat()
        return _read(names.made, found.st_ino, found.st_mtime_ns, found.st_size)
    except (OSError, ValueError, RecursionError):
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


def mount_numbers(lines: Iterable[str]) -> Iterator[int]:
    """Yield the numbers of mounts from such lines."""
    return (int(line.split("\t")[5]) for line in lines)


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
                text = proc.read(f"{folder}/{name}").decode().strip()
                found[key] = text.partition("\n")[0] if name == _COUNTS_TOO else text
            except OSError:
                continue
    return found


def hashes(names: InstanceNames) -> Mapping[str, str]:
    """Return the SHA-256 of each file that says what the instance is; "" for one that isn't there."""
    folder = names.folder
    paths = {name: folder / name for name in (*FILES, "config.json", names.intent.name)}
    paths["state.json"] = names.of.state.runc / names.name / "state.json"
    return {name: hash_of(path) for name, path in paths.items()}


def hash_of(path: Path) -> str:
    try:
        return hashlib.sha256(durable.read(path)).hexdigest()
    except OSError:
        return ""


@functools.lru_cache(maxsize=1024)
def _read(path: Path, *_identity: int) -> tuple[Facts, int]:
    text = durable.read(path)
    return from_json(Facts, parse(text)), marks.mark_of(text)
