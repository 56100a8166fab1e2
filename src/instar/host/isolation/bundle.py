"""What runc is told about an instance: config.json, as a pure function of a :class:`Bundle`.

Everything that protects an instance from its own processes, and this machine from the instance, is in here.
Source: runtime-spec 1.0.2, config.md and config-linux.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Any

from instar.frozen import dataclass
from instar.host.isolation import confinement
from instar.host.kernel.cgroups import Hierarchy
from instar.host.kernel.namespaces import IdRange
from instar.model.definition import Limits, Tmp

_CPU_PERIOD_US = 100_000
_RUN_BYTES = 64 << 20
_OOM_SCORE = 200  # an instance goes before what the machine itself needs
_TERMINALS = 128  # pseudo-terminals: the kernel has so many for all instances of a machine together
_CGROUPS = "/sys/fs/cgroup"
_TOLD = frozenset({"cpu", "cpuacct", "cpuset", "memory", "pids"})
_MIN_PIDS = 16  # runc's own threads count until the command begins


@dataclass(frozen=True, kw_only=True, slots=True)
class Bind:
    """Something of this machine's that shows inside. ``executable`` lets programs in it run."""

    source: Path
    target: str
    writable: bool = False
    executable: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Users:
    """The instance's user namespace, made before it."""

    path: Path
    ids: IdRange


@dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """An instance as runc is to make it. ``environment`` is all of it; ``uid`` and ``gid`` are those inside."""

    root: Path
    hostname: str
    command: Sequence[str]
    workdir: str
    environment: Mapping[str, str]
    uid: int
    gid: int
    capabilities: Sequence[str]  # CAP_…
    seccomp: Mapping[str, Any]
    limits: Limits
    swap_is_limited: bool
    rlimits: Sequence[Mapping[str, int | str]] | None  # None: runc sets none
    group: str
    network: Path
    users: Users | None
    tmp: Tmp
    shm_bytes: int
    binds: Sequence[Bind]
    hierarchies: Sequence[Hierarchy]  # of cgroups, as they are mounted here
    annotations: Mapping[str, str] = field(default_factory=dict)


def config(bundle: Bundle) -> dict[str, Any]:
    """Return config.json as a value."""
    return {
        "ociVersion": "1.0.2",
        "hostname": bundle.hostname,
        "root": {"path": str(bundle.root), "readonly": True},
        "process": _process(bundle),
        "mounts": [*_kernel_mounts(bundle), *_tmpfs_mounts(bundle), *_binds(bundle)],
        "linux": _linux(bundle),
        "annotations": dict(bundle.annotations),
    }


def _process(bundle: Bundle) -> dict[str, Any]:
    capabilities = sorted(bundle.capabilities)
    kinds = ("bounding", "effective", "inheritable", "permitted", "ambient")
    return {
        "terminal": False,
        "user": {"uid": bundle.uid, "gid": bundle.gid, "umask": 0o022},
        "args": list(bundle.command),
        "env": [f"{name}={value}" for name, value in sorted(bundle.environment.items())],
        "cwd": bundle.workdir,
        "capabilities": dict.fromkeys(kinds, capabilities),
        "noNewPrivileges": True,
        "oomScoreAdj": _OOM_SCORE,
        "rlimits": bundle.rlimits,
    }


def _linux(bundle: Bundle) -> dict[str, Any]:
    namespaces = [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")]
    namespaces.append({"type": "network", "path": str(bundle.network)})
    linux = {
        "namespaces": namespaces,
        "cgroupsPath": f"/{bundle.group}",
        "resources": _resources(bundle),
        "seccomp": bundle.seccomp,
        "rootfsPropagation": "private",
        "maskedPaths": list(confinement.MASKED),
        "readonlyPaths": list(confinement.READ_ONLY),
    }
    if bundle.users:
        mapping = [{"containerID": 0, "hostID": bundle.users.ids.first, "size": bundle.users.ids.count}]
        namespaces.append({"type": "user", "path": str(bundle.users.path)})
        linux |= {"uidMappings": mapping, "gidMappings": mapping}
    return linux


def _resources(bundle: Bundle) -> dict[str, Any]:
    limits = bundle.limits
    memory = {"limit": limits.memory_bytes}
    if bundle.swap_is_limited:
        memory["swap"] = limits.memory_bytes  # memory and swap together: no swap
    return {
        "devices": [{"allow": False, "access": "rwm"}],
        "memory": memory,
        "cpu": {
            "shares": max(2, limits.cpus_milli * 1024 // 1000),
            "quota": max(1000, limits.cpus_milli * _CPU_PERIOD_US // 1000),
            "period": _CPU_PERIOD_US,
        },
        "pids": {"limit": max(_MIN_PIDS, limits.pids + _more_pids(bundle))},
    }


def _more_pids(bundle: Bundle) -> int:
    """Return how many count besides the service's: the init, and with v2, which counts all in one, conmon."""
    return 2 if any(one.unified and one.counts_time for one in bundle.hierarchies) else 1


def _kernel_mounts(bundle: Bundle) -> list[dict[str, Any]]:
    safe = ["nosuid", "noexec", "nodev"]
    terminals = ["newinstance", "ptmxmode=0666", "mode=0620", "gid=5", f"max={_TERMINALS}"]
    mounts = [
        _mount("/proc", "proc", safe),
        _mount("/dev", "tmpfs", ["nosuid", "noexec", "strictatime", "mode=755", "size=65536k"]),
        _mount("/dev/pts", "devpts", ["nosuid", "noexec", *terminals]),
        _mount("/dev/mqueue", "mqueue", safe),
        _mount("/sys", "sysfs", [*safe, "ro"]),
    ]
    return [*mounts, *_cgroup_mounts(bundle)]


def _cgroup_mounts(bundle: Bundle) -> list[dict[str, Any]]:
    """Show what the instance may use where a JVM, Node, Go and .NET look for it.

    Of v1, the hierarchies that say it; runc would make a writable folder for them, and mount all.
    """
    safe = ["nosuid", "noexec", "nodev", "relatime", "ro"]
    told = {name: one for one in bundle.hierarchies for name in one.names if one.controllers & _TOLD}
    if not told:
        return [_mount(_CGROUPS, "cgroup", safe)] if bundle.hierarchies else []
    shown = [_mount(_CGROUPS, "tmpfs", ["nosuid", "noexec", "nodev", "ro", "mode=755", "size=64k"])]
    for name, hierarchy in sorted(told.items()):
        bind = _mount(f"{_CGROUPS}/{name}", "bind", ["bind", "private", *safe])
        shown.append(bind | {"source": f"{hierarchy.mount}/{bundle.group}"})
    return shown


def _tmpfs_mounts(bundle: Bundle) -> list[dict[str, Any]]:
    safe = ["nosuid", "nodev"]
    # runc gives a tmpfs the mode of the folder beneath it, whatever that is in the image: the owner makes it usable
    own = [f"uid={bundle.uid}", f"gid={bundle.gid}"]
    tmp = safe if bundle.tmp.exec else [*safe, "noexec"]
    return [
        _mount("/dev/shm", "tmpfs", [*safe, "noexec", "mode=1777", f"size={bundle.shm_bytes}"]),  # noqa: S108 - inside
        _mount("/run", "tmpfs", [*safe, "noexec", *own, "mode=755", f"size={_RUN_BYTES}"]),
        _mount("/tmp", "tmpfs", [*tmp, *own, "mode=1777", f"size={bundle.tmp.size_bytes}"]),  # noqa: S108 - inside
    ]


def _binds(bundle: Bundle) -> list[dict[str, Any]]:
    """The deeper a target, the later it comes, so that none hides another."""
    ordered = sorted(bundle.binds, key=lambda bind: (bind.target.count("/"), bind.target))
    return [_bind(bind) for bind in ordered]


def _bind(bind: Bind) -> dict[str, Any]:
    options = ["bind", "private", "nosuid", "nodev", "rw" if bind.writable else "ro"]
    if not bind.executable:
        options.append("noexec")
    return {"destination": bind.target, "type": "bind", "source": str(bind.source), "options": options}


def _mount(target: str, kind: str, options: list[str]) -> dict[str, Any]:
    return {"destination": target, "type": kind, "source": kind, "options": options}
